# Attempts to reach other machines, one per name: net_probe.py NAME [ARGUMENT...]
# Prints what it saw; what counts is what arrives outside. Never fails: exit code 0.
import socket
import ssl
import struct
import sys

PROXY = ("127.0.0.1", 3128)
WAIT = 4


def dial(host, port):
    s = socket.create_connection((host, int(port)), timeout=WAIT)
    s.settimeout(WAIT)
    return s


def read(s, most=4096):
    data = b""
    try:
        while len(data) < most:
            piece = s.recv(most - len(data))
            if not piece:
                break
            data += piece
            if b"\r\n\r\n" in data:
                break
    except (OSError, ssl.SSLError) as error:
        data += b" [" + type(error).__name__.encode() + b"]"
    return data


def say(data):
    print(data.decode("latin-1"))


def connect(authority, via=PROXY):
    s = dial(*via)
    s.sendall(b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n")
    answer = read(s)
    say(answer.split(b"\r\n\r\n")[0])
    return s if b" 200 " in answer.split(b"\r\n")[0] + b" " else None


def hello(s, name):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    t = context.wrap_socket(s, server_hostname=name or None)
    t.sendall(b"GET /tls HTTP/1.1\r\nHost: " + (name or "none").encode() + b"\r\nConnection: close\r\n\r\n")
    say(read(t))


def raw(text):
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def main(name, *args):
    if name == "tcp":  # HOST PORT
        s = dial(*args)
        s.sendall(b"hi\n")
        say(b"connected " + read(s))
    elif name == "udp":  # HOST PORT
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.sendto(b"hi", (args[0], int(args[1])))
        print("sent")
    elif name == "connect":  # AUTHORITY
        s = connect(raw(args[0]))
        if s:
            s.sendall(b"hi\n")
            say(read(s))
    elif name == "connect-tls":  # AUTHORITY SERVER-NAME
        s = connect(raw(args[0]))
        if s:
            hello(s, args[1])
    elif name == "connect-raw":  # AUTHORITY BYTES
        s = connect(raw(args[0]))
        if s:
            s.sendall(raw(args[1]))
            say(read(s))
    elif name == "tls":  # ADDRESS PORT SERVER-NAME
        hello(dial(args[0], args[1]), args[2] if len(args) > 2 else "")
    elif name == "send":  # ADDRESS PORT BYTES
        s = dial(args[0], args[1])
        s.sendall(raw(args[2]))
        say(read(s))
    elif name == "send-all":  # ADDRESS PORT BYTES: everything that comes back
        s = dial(args[0], args[1])
        s.sendall(raw(args[2]))
        for _ in range(4):
            data = read(s)
            if not data.strip():
                break
            say(data)
    elif name == "dns":  # ADDRESS PORT NAME
        labels = b"".join(bytes([len(l)]) + l.encode() for l in args[2].split(".")) + b"\0"
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(WAIT)
        s.sendto(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">HH", 1, 1), (args[0], int(args[1])))
        answer, peer = s.recvfrom(2048)
        print("rcode", answer[3] & 15, "answers", struct.unpack(">H", answer[6:8])[0], "from", peer[0])
    elif name == "relay":  # PORT: a listener of one's own, for another process of the run
        s = socket.socket()
        s.bind(("127.0.0.1", int(args[0])))
        s.listen()
        c = dial("127.0.0.1", args[0])
        print("ok relayed")
    elif name == "families":
        for family in ("AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG"):
            try:
                socket.socket(getattr(socket, family), socket.SOCK_RAW if family != "AF_ALG" else socket.SOCK_SEQPACKET)
                print("ok", family)
            except OSError as error:
                print(family, error.errno)
        try:
            socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
            print("ok raw")
        except OSError as error:
            print("raw", error.errno)


try:
    main(*sys.argv[1:])
except Exception as error:  # the attempt failed, which is an answer
    print("failed:", type(error).__name__, error)
