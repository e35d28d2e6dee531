"""Downloads and builds the rivals into one folder.

llama.cpp comes out of the source package of llama-cpp-python, which holds all
of it: package indexes are reached in more places than code forges.
"""
import hashlib
import html
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request

from rivals import PeersError

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"  # llama_bench.cpp is written for its llama.h
BIGMOE_VERSION = "0.3.35"  # the nearest to the fork that BigMoeOnEdge pins; it does not compile with the next one
INSIDE = "vendor/llama.cpp/"
TILES = HERE / "amx_tiles.h"  # mends the compiler's; without it llama.cpp dies of an illegal instruction


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


# --------------------------------------------------------------------- download
def pip_setting(name, fallback):
    """What pip itself would use: its variable, or its configuration."""
    variable = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
    if variable:
        return variable
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "get", f"global.{name}"], capture_output=True,
                           text=True, check=False)
    return asked.stdout.strip() or fallback


def open_url(url):
    certificates = pip_setting("cert", None)
    context = ssl.create_default_context(cafile=certificates)
    try:
        return urllib.request.urlopen(url, timeout=180, context=context)
    except (urllib.error.URLError, OSError) as error:
        raise PeersError(f"{url}: {error}") from error


def source_link(page, address, version):
    """(address, sha256 or "") of the source package in an index's page."""
    wanted = f"{PACKAGE.replace('-', '_')}-{version}.tar.gz"
    for link, name in re.findall(r"<a\s[^>]*?href=\"([^\"]+)\"[^>]*>([^<]*)</a>", page):
        if name.strip().replace("-", "_") == wanted.replace("-", "_"):
            link, _, digest = html.unescape(link).partition("#sha256=")
            return urllib.parse.urljoin(address, link), digest
    raise PeersError(f"{address}: has no {wanted}")


def save(url, digest, path):
    found = hashlib.sha256()
    part = path.with_name(path.name + ".part")
    with open_url(url) as answer, open(part, "wb") as file:
        while piece := answer.read(1 << 20):
            found.update(piece)
            file.write(piece)
    if digest and found.hexdigest() != digest:
        raise PeersError(f"{url}: its SHA-256 is {found.hexdigest()}, and the index says {digest}")
    part.rename(path)


def download(folder, version):
    path = folder / f"{PACKAGE}-{version}.tar.gz"
    if not path.is_file():
        address = pip_setting("index-url", "https://pypi.org/simple").rstrip("/") + f"/{PACKAGE}/"
        with open_url(address) as page:
            url, digest = source_link(page.read().decode(), address, version)
        say(f"downloads {url}")
        save(url, digest, path)
    return path


def inner_path(member):
    """Where a member of the package belongs, below llama.cpp; None for the rest."""
    path = member.name.partition("/")[2]
    if not member.isfile() or not path.startswith(INSIDE):
        return None
    path = pathlib.PurePosixPath(path[len(INSIDE):])
    # A .git that points out of the package would only confuse the build.
    return None if ".." in path.parts or path.is_absolute() or path.parts[0] == ".git" else path


def extract(package, folder):
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(package) as archive:
        for member in archive:
            path = inner_path(member)
            if path is None:
                continue
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            with archive.extractfile(member) as source, open(part / path, "wb") as file:
                shutil.copyfileobj(source, file)
    if not (part / "CMakeLists.txt").is_file():
        raise PeersError(f"{package}: holds no {INSIDE}CMakeLists.txt")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


# ------------------------------------------------------------------------ build
def call(*command):
    say(" ".join(map(str, command)))
    if subprocess.run([str(word) for word in command], stdout=sys.stderr, check=False).returncode:
        raise PeersError(f"failed: {' '.join(map(str, command))}")


def cmake(source, folder, target, jobs, *options):
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    flags = f'{os.environ.get("CXXFLAGS", "")} -include "{TILES}"'.strip()
    call("cmake", "-S", source, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_CXX_FLAGS={flags}",
         *options)
    call("cmake", "--build", folder, "--target", target, "--parallel", jobs)


def remember(build, engine, version):
    path = build / "versions.json"
    versions = json.loads(path.read_text()) if path.is_file() else {}
    versions[engine] = version
    path.write_text(json.dumps(versions, indent=2) + "\n")


def llama_source(build, version):
    """llama.cpp's source, downloaded unless it is there."""
    folder = build / f"llama.cpp-{version}"
    if not folder.is_dir():
        extract(download(build, version), folder)
    return folder


def build_llama(build, version, jobs):
    cmake(HERE, build / "llama", "llama_bench", jobs, f"-DLLAMA_CPP_DIR={llama_source(build, version)}")
    shutil.copy2(build / "llama" / "llama_bench", build / "llama_bench")
    remember(build, "llama.cpp", f"{PACKAGE} {version}")


def build_bigmoe(build, given, jobs):
    """BigMoeOnEdge against the llama.cpp it brings, or else against one that is as
    near as package indexes have it. Only its --overlap needs its own."""
    if not (given / "cli" / "CMakeLists.txt").is_file():
        raise PeersError(f"--bigmoe-source {given}: is no checkout of BigMoeOnEdge")
    source = build / "bigmoe-source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(given, source, ignore=shutil.ignore_patterns(".git", "build"), symlinks=True)
    theirs, which = source / "third_party" / "llama.cpp", "its own llama.cpp"
    if not (theirs / "CMakeLists.txt").is_file():
        shutil.rmtree(theirs, ignore_errors=True)
        theirs.parent.mkdir(exist_ok=True)
        theirs.symlink_to(llama_source(build, BIGMOE_VERSION))
        which = f"the llama.cpp of {PACKAGE} {BIGMOE_VERSION}"
        say(f"BigMoeOnEdge: its llama.cpp is not there; taking {which}")
    cmake(source, build / "bigmoe", "bmoe-cli", jobs, "-DBMOE_BUILD_TESTS=OFF", "-DBUILD_SHARED_LIBS=OFF")
    shutil.copy2(build / "bigmoe" / "cli" / "bmoe-cli", build / "bmoe-cli")
    asked = subprocess.run([str(build / "bmoe-cli"), "--version"], capture_output=True, text=True, check=True)
    remember(build, "bigmoe", f"BigMoeOnEdge {asked.stdout.strip()} with {which}")


def setup(build, version, bigmoe_source, jobs):
    build.mkdir(parents=True, exist_ok=True)
    build_llama(build, version, jobs)
    if bigmoe_source:
        build_bigmoe(build, bigmoe_source, jobs)
    else:
        say("BigMoeOnEdge is not built: name a checkout with --bigmoe-source")
