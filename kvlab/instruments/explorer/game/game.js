"use strict";
// Plays the runs of one exploration. Nothing is computed here that the server would answer: each
// move, with its reply and the keys after it, was recorded from a real run.

const content = JSON.parse(document.getElementById("content").textContent);
const at = (id) => document.getElementById(id);
const text = (number) => content.texts[number];

// ---- the content, with names for its numbers ----

const nodes = content.nodes.map(([first, ...rest]) => {
  if (typeof first === "string") {
    const [why, ...endings] = rest.map(text);
    return { verdict: first, why, endings, moves: [], left: 0 };
  }
  return { verdict: "", moves: rest[0].map(move), left: first };
});

function move([token, client, kind, request, reply, state, changed, gone, last, to]) {
  return {
    token, client, kind, request: text(request), reply: text(reply), state: content.states[state],
    changed: changed.map(text), gone: gone.map(text), last: text(last), to,
    steps: kind === "look" ? 0 : 1, // a client that looks at its clock makes no step
    fault: ["crash", "lose reply", "lose request", "expire", "flush", "jump", "fail over", "wait in vain"].includes(kind),
  };
}

// Of each node: the ends below it, and the least steps to a broken one. A node comes after those
// that it leads to.
for (const node of nodes) {
  const below = node.moves.map((one) => ({ ...nodes[one.to], steps: one.steps }));
  const sum = (count) => below.reduce((total, one) => total + count(one), 0);
  node.ends = node.verdict ? 1 : sum((one) => one.ends);
  node.broken = node.verdict ? Number(node.verdict === "broken") : sum((one) => one.broken);
  node.partial = node.left > 0 || below.some((one) => one.partial);
  node.least = node.verdict === "broken" ? 0
    : Math.min(Infinity, ...below.map((one) => one.least + one.steps));
}

// ---- the game: the moves so far, and the ends that were reached ----

const root = nodes[content.root];
const path = [];
const seen = new Set();
let hinting = false;

const here = () => (path.length ? nodes[path.at(-1).to] : root);
const state = () => (path.length ? path.at(-1).state : content.states[content.first]);
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const steps = () => path.reduce((total, one) => total + one.steps, 0);

function take(one) {
  path.push(one);
  if (here().verdict) seen.add(path.map((step) => step.token).join(" "));
  show(`${who(one.client)}: ${one.request}${one.reply ? ` → ${one.reply}` : ""}`);
}

function backTo(length) {
  if (length < 0 || length >= path.length) return;
  path.length = length;
  show("Back");
}

function runToTheEnd() {
  if (here().verdict) return;
  while (!here().verdict) {
    const usual = here().moves.find((one) => !one.fault);
    path.push(usual || here().moves[0]);
  }
  seen.add(path.map((step) => step.token).join(" "));
  show("");
}

// ---- the page; every text of a user becomes a text node ----

function make(name, more = {}, ...inside) {
  const { colour, ...properties } = more;
  const made = Object.assign(document.createElement(name), properties);
  if (colour) made.style.setProperty("--colour", colour);
  made.append(...inside.filter((one) => one !== "" && one !== null));
  return made;
}

const who = (client) => (client < 0 ? "server" : content.names[client]);
const colour = (client) => (client < 0 ? "var(--s)" : `var(--c${client % 5})`);

function what(one) {
  // A move before it is made: the reply is not known yet.
  switch (one.kind) {
    case "crash": return ["crashes"];
    case "lose reply": return ["the reply is lost"];
    case "lose request": return ["the request is lost"];
    case "time out": return [make("code", {}, one.request), " times out"];
    case "wait in vain": return [make("code", {}, one.request), " waits in vain"];
    case "fail over": return [`fails over: ${one.request}`];
    case "expire": case "flush": case "jump": case "look": return [one.request];
    default: return [make("code", {}, one.request)];
  }
}

function result(one) {
  switch (one.kind) {
    case "crash": return [one.request];
    case "lose reply": return [make("code", {}, `${one.request} → ${one.reply}`),
                               make("span", { className: "lost" }, " the reply is lost")];
    case "lose request": return [make("code", {}, one.request),
                                 make("span", { className: "lost" }, " the request is lost")];
    case "time out": return [make("code", {}, one.request), ` times out → ${one.reply}`];
    case "expire": case "flush": case "fail over": case "jump": case "look": return [one.request];
    default: return [make("code", {}, one.reply ? `${one.request} → ${one.reply}` : one.request)];
  }
}

function showMoves() {
  const cards = [];
  const all = [];
  const known = content.names.map((_, client) => client);
  for (const client of [...known, -1]) {
    const moves = here().moves.filter((one) => one.client === client);
    if (client < 0 && !moves.length) continue;
    const buttons = moves.map((one) => {
      const number = all.push(one);
      const best = hinting && one.steps + nodes[one.to].least === here().least && here().least < Infinity;
      const key = number < 10 ? make("kbd", {}, String(number)) : "";
      const names = [one.fault ? "fault" : "", best ? "best" : ""].join(" ").trim();
      const made = make("button", { type: "button", className: names }, key, ...what(one));
      made.dataset.token = one.token;
      made.addEventListener("click", () => take(one));
      return made;
    });
    const stands = moves.length ? "" : make("span", {}, standing(client));
    cards.push(make("div", { className: "who", colour: colour(client) },
                    make("b", {}, who(client)), stands, make("div", {}, ...buttons)));
  }
  if (here().left) {
    cards.push(make("p", {}, `${count(here().left, "more move")} here, not in this page.`));
  }
  at("moves").replaceChildren(...cards);
  at("moves").hidden = Boolean(here().verdict); // the end says what became of each client
}

function standing(client) {
  const last = path.findLast((one) => one.client === client);
  if (last && last.last) return last.last;
  return "waits";
}

function showEnd() {
  const node = here();
  const end = at("end");
  end.hidden = !node.verdict;
  document.body.dataset.end = node.verdict;
  at("choice-title").textContent = node.verdict ? "This is the end" : "What happens next?";
  if (!node.verdict) return;
  const inSteps = count(steps(), "move");
  const par = root.least < Infinity ? `; fewest moves: ${root.least}` : "";
  const words = {
    broken: `Broken in ${inSteps}${par}`,
    holds: root.least < Infinity ? "This end holds: undo, and try another way" : "This end holds",
    undecided: "Nobody knows: the run was broken off",
  }[node.verdict];
  const endings = node.endings.map((said, client) => make("li", {}, `${content.names[client]} ${said}`));
  end.style.setProperty("--colour", node.verdict === "holds" ? "var(--good)" : "var(--fault)");
  end.replaceChildren(make("strong", {}, words), node.why, make("ul", {}, ...endings));
}

function showKeys() {
  const last = path.at(-1);
  const changed = new Set(last ? last.changed : []);
  const row = (className, ...cells) =>
    make("tr", { className }, ...cells.map((cell) => make("td", {}, make("code", {}, cell))));
  const rows = state().map((cells) => {
    const [key, value, ttl] = cells.map(text);
    return row(changed.has(key) ? "new" : "", key, value, ttl.replace(/^TTL /, ""));
  });
  if (last) rows.push(...last.gone.map((key) => row("gone", key, "", "gone")));
  const head = make("tr", {}, ...["key", "value", "TTL"].map((name) => make("th", {}, name)));
  const none = make("tr", {}, make("td", { colSpan: 3 }, "There is no key."));
  at("keys").replaceChildren(head, ...(rows.length ? rows : [none]));
}

function showTimeline() {
  let number = 0;
  const items = path.map((one, place) => {
    number += one.steps;
    const keys = one.changed.map((key) => {
      const [, value, ttl] = one.state.map((row) => row.map(text)).find((row) => row[0] === key);
      return make("small", {}, `${key} = ${value}  ${ttl}`);
    });
    const gone = one.gone.map((key) => make("small", {}, `${key} is gone`));
    const last = one.last && one.kind !== "crash" ? make("small", {}, `${who(one.client)} ${one.last}`) : "";
    const name = make("b", {}, `${who(one.client)} `);
    const said = make("span", { className: one.fault ? "fault" : "" }, name, ...result(one));
    const button = make("button", { type: "button", colour: colour(one.client), title: "Back to here" },
                        make("span", { className: "number" }, one.steps ? String(number) : ""),
                        said, ...keys, ...gone, last);
    button.addEventListener("click", () => backTo(place + 1));
    return make("li", {}, button);
  });
  at("timeline").replaceChildren(...(items.length ? items : [make("li", {}, "Nothing yet: choose.")]));
}

function showScore() {
  const node = here();
  const faults = path.filter((one) => one.fault).length;
  const parts = [count(steps(), "move"), count(faults, "fault"),
                 `seen ${seen.size.toLocaleString("en")} of ${count(root.ends, "end")}`];
  const ahead = count(node.ends, "end") + (node.partial ? " in this page" : "");
  if (!node.verdict && root.broken) {
    if (!node.broken) parts.push(`ahead: ${ahead}, none broken: undo`);
    else if (node.broken === node.ends) parts.push(`ahead: ${ahead}, all broken`);
    else parts.push(`ahead: ${ahead}`);
  }
  at("score").textContent = parts.join(" · ");
}

function show(said) {
  const inMoves = document.activeElement && document.activeElement !== document.body;
  showMoves();
  showEnd();
  showKeys();
  showTimeline();
  showScore();
  at("undo").disabled = at("restart").disabled = path.length === 0;
  at("on").disabled = Boolean(here().verdict);
  at("said").textContent = here().verdict ? at("end").textContent : said;
  if (!inMoves) return;
  if (here().verdict) at("end").focus();
  else at("moves").querySelector("button").focus({ preventScroll: true });
}

// ---- what does not change, and the keys ----

function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

function toggleHint() {
  hinting = !hinting;
  at("hint").setAttribute("aria-pressed", String(hinting));
  show(hinting ? "Hints on" : "Hints off");
}

const actions = {
  undo: ["u", () => backTo(path.length - 1)],
  restart: ["r", () => backTo(0)],
  on: ["e", runToTheEnd],
  hint: ["h", toggleHint],
  theme: ["d", toggleTheme],
};
for (const [id, [, act]] of Object.entries(actions)) at(id).addEventListener("click", act);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = Object.values(actions).find(([key]) => key === event.key.toLowerCase());
  const chosen = /^[1-9]$/.test(event.key) && at("moves").querySelectorAll("button")[event.key - 1];
  if (chosen) chosen.click();
  else if (act) act[1]();
});

at("title").textContent = content.title;
at("promise").textContent = content.promise;
at("bet").textContent = `${root.broken ? "Break it: " : ""}${content.summary}.`;
if (content.texts.some((said) => /\btime-\d/.test(said))) {
  at("note").textContent = "time-1, time-2 …: points in time, in the order in which they occur.";
}
at("hint").hidden = !root.broken;
show("");
