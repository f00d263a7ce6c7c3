// What the patterns of the seed take for granted: a database (drizzle), cookies (next/headers).

import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto; // before Node 19 it was no global

let rows = new Map();

const chain = (result) => Object.assign(Promise.resolve(result), { returning: async () => result });

export const users = { id: "id" };
export const eq = (_column, id) => id;
export const db = {
  query: { users: { findFirst: async ({ where }) => rows.get(where) } },
  update: () => ({
    set: (data) => ({
      where: (id) => {
        if (rows.has(id)) rows.set(id, { ...rows.get(id), ...data });
        return chain(rows.has(id) ? [rows.get(id)] : []);
      },
    }),
  }),
  delete: () => ({ where: async (id) => rows.delete(id) }),
  fill: (given) => (rows = new Map(Object.entries(given).map(([id, row]) => [Number(id), row]))),
};

const jar = new Map();
export const cookies = async () => ({
  get: (name) => jar.get(name),
  set: (name, value) => jar.set(name, { value }),
  delete: (name) => jar.delete(name),
});
