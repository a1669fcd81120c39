# Tries to run a program that nobody lists, in every way that needs no vulnerability. Prints one
# line per attempt: its name, and `ran` if the program really ran. Arguments: the program's copy in
# the workspace, a library whose constructor says so, and the program's own path.
import ctypes, mmap, os, shutil, sys

copy, library, original = sys.argv[1:4]
loader = next(p for p in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if os.path.exists(p))


def attempt(name, act):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        try:
            act()
        except BaseException:
            pass
        os._exit(0)
    os.close(writer)
    seen = b""
    while piece := os.read(reader, 65536):
        seen += piece
    os.waitpid(child, 0)
    os.close(reader)
    print(name, "ran" if b"uid=" in seen else "refused", flush=True)


def run(*argv):
    os.execv(argv[0], argv)


def placed(directory):
    path = os.path.join(directory, "placed")
    shutil.copyfile(copy, path)
    os.chmod(path, 0o755)
    return path


def linked():
    if os.path.lexists("linked"):
        os.unlink("linked")
    os.symlink(original, "linked")
    return "./linked"


def memory():
    fd = os.memfd_create("x", 0)
    with open(copy, "rb") as program:
        os.write(fd, program.read())
    return fd


def by_descriptor():
    os.execve(os.open(copy, os.O_RDONLY), ["id"], {})


def script():
    with open("script", "w") as file:
        file.write(f"#!{sys.executable}\nprint('uid=script')\n")
    os.chmod("script", 0o755)
    run("./script")


def mapped():
    with open(copy, "rb") as file:
        mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
    os.write(1, b"uid=mapped")


def preloaded():
    os.execve(sys.executable, [sys.executable, "-c", ""], {"LD_PRELOAD": library})


attempt("by its path", lambda: run(original))
attempt("by its path, through the loader", lambda: run(loader, original))
attempt("through a link", lambda: run(linked()))
attempt("a copy in the workspace", lambda: run(copy))
attempt("a copy in the workspace, through the loader", lambda: run(loader, copy))
attempt("a copy in /tmp", lambda: run(placed("/tmp")))
attempt("a copy in /tmp, through the loader", lambda: run(loader, placed("/tmp")))
attempt("a copy in /dev/shm", lambda: run(placed("/dev/shm")))
attempt("a copy in memory", lambda: os.execve(memory(), ["id"], {}))
attempt("a copy in memory, by its name in /proc", lambda: run(f"/proc/self/fd/{memory()}"))
attempt("a copy in memory, through the loader", lambda: run(loader, f"/proc/self/fd/{memory()}"))
attempt("by its descriptor", by_descriptor)
attempt("by its name in /proc", lambda: run(f"/proc/self/fd/{os.open(copy, os.O_RDONLY)}"))
attempt("a script", script)
attempt("a library of the workspace", lambda: ctypes.CDLL(library))
attempt("a library of the workspace, preloaded", preloaded)
attempt("a mapping", mapped)
