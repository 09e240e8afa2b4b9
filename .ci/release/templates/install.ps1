# D2I workbook @VERSION@, @TARGET@: makes a Python environment from the wheels beside this script.
# No network is asked, and every wheel is compared with its hash in requirements.txt.
#
#   powershell -ExecutionPolicy Bypass -File install.ps1 -Target C:\D2I\env
#   powershell -ExecutionPolicy Bypass -File install.ps1 -Target C:\D2I\env -Python C:\Python\python.exe
#
# Exit codes: 0 installed; 2 wrong call; 3 this machine or Python does not fit; 4 pip failed.
# For Windows PowerShell 5.1 and PowerShell 7.
[CmdletBinding()]
param(
    [string]$Target = '',
    [string]$Python = ''
)
Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

function Stop-Install([int]$Code, [string]$Why) {
    [Console]::Error.WriteLine("install.ps1: $Why")
    exit $Code
}

# What a program prints on its error stream would stop the script in PowerShell 5: it goes by exit code.
function Get-PythonVersion([string]$Command, [string[]]$First) {
    $ErrorActionPreference = 'Continue'
    try {
        $words = $First + @('-c', 'import sys, struct; print(sys.implementation.name, ''%d.%d'' % sys.version_info[:2], struct.calcsize(''P'') * 8)')
        $said = & $Command @words 2>$null
        if ($LASTEXITCODE -eq 0) { return "$said".Trim() }
    } catch { }
    return ''
}

function Invoke-Python([string]$Command, [string[]]$Words, [string]$Why) {
    $ErrorActionPreference = 'Continue'
    & $Command @Words
    if ($LASTEXITCODE -ne 0) { Stop-Install 4 $Why }
}

if ($Target -eq '') { Stop-Install 2 'name the folder of the new environment: -Target C:\D2I\env' }
$Target = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Target)
$Here = Split-Path -Parent $MyInvocation.MyCommand.Path
$Wanted = 'cpython @PYTHON@ 64'

$First = @()
if ($Python -eq '') {
    if ((Get-Command 'py' -ErrorAction SilentlyContinue) -and ((Get-PythonVersion 'py' @('-@PYTHON@')) -eq $Wanted)) {
        $Python = 'py'
        $First = @('-@PYTHON@')
    } elseif ((Get-Command 'python' -ErrorAction SilentlyContinue) -and ((Get-PythonVersion 'python' @()) -eq $Wanted)) {
        $Python = 'python'
    } else {
        Stop-Install 3 'no CPython @PYTHON@ of 64 bits was found; name one: -Python C:\path\to\python.exe'
    }
}
$Found = Get-PythonVersion $Python $First
if ($Found -ne $Wanted) {
    Stop-Install 3 "$Python is '$Found', and this bundle is for '$Wanted'. There is one for each Python from 3.11 to 3.14."
}

$Config = Join-Path $Target 'pyvenv.cfg'
if ((Test-Path -LiteralPath $Target) -and -not (Test-Path -LiteralPath $Config)) {
    if (@(Get-ChildItem -LiteralPath $Target -Force).Count -gt 0) {
        Stop-Install 2 "$Target is not empty and no Python environment."
    }
}
if (-not (Test-Path -LiteralPath $Config)) {
    Invoke-Python $Python ($First + @('-m', 'venv', $Target)) "the environment cannot be made in $Target."
}
$Inside = Join-Path $Target 'Scripts\python.exe'
# settings of this machine (another index, a proxy) have no say: only the wheels here count
$env:PIP_CONFIG_FILE = 'nul'
$Words = @('-m', 'pip', '--isolated', 'install', '--no-index', '--find-links', (Join-Path $Here 'wheels'),
    '--only-binary', ':all:', '--require-hashes', '--no-cache-dir', '--disable-pip-version-check', '--quiet',
    '-r', (Join-Path $Here 'requirements.txt'))
Invoke-Python $Inside $Words 'pip could not install; what it says is above.'
Invoke-Python $Inside @('-m', 'pip', '--isolated', 'check', '--disable-pip-version-check') 'the packages do not fit each other.'
$Command = Join-Path $Target 'Scripts\d2i.exe'
$Version = & $Command '--version'
Write-Output "Installed: $Version in $Target"
Write-Output "Next, as the account that works with it: $Command new FOLDER"
