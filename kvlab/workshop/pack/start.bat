@echo off
rem Opens the workbook. The first start installs from the folder "wheels", without a network.
cd /d "%~dp0" || goto elsewhere
rem The quotes belong to the text: the name of a folder may have an ampersand.
set HERE=""
if exist .venv\.installed set /p HERE=<.venv\.installed
if %HERE%=="%CD%" goto open
for %%v in (@PYTHONS@) do (
    py -%%v -c "" >nul 2>&1 && set "PYTHON=py -%%v" && goto install
)
python -c "import sys; sys.exit('%%d.%%d' %% sys.version_info[:2] not in '@PYTHONS@'.split())" >nul 2>&1 && set "PYTHON=python" && goto install
echo This folder needs one of these Pythons: @PYTHONS@
pause
exit /b 1
:install
echo Installing into "%CD%\.venv", a minute or two ...
if exist .venv rmdir /s /q .venv
%PYTHON% -m venv .venv || goto failed
.venv\Scripts\python -m pip --isolated install --quiet --disable-pip-version-check --no-index --find-links wheels "kvlab[lab]" || goto failed
>.venv\.installed echo "%CD%"
:open
.venv\Scripts\kvlab lab %*
if not errorlevel 1 exit /b 0
pause
exit /b 1
:elsewhere
echo Copy this folder to your disk first: it cannot be started from a share.
pause
exit /b 1
:failed
echo The installation failed; see the lines above.
pause
exit /b 1
