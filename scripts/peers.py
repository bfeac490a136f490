"""The forwarders that scripts/bench and scripts/faults measure rollcall beside.

Each function gives the command that starts one on a port of 127.0.0.1, before upstreams that are (address, port), with its
files in a folder, on as many threads as it has by default. What one measurement wants besides is in the forwarder's own words.
"""
import os, pathlib, shutil

TOP = pathlib.Path(__file__).resolve().parent.parent
# Where programs are that may be in no package of the system, or are not to be installed from it.
PLACES = [os.environ.get("PEERS_BIN", ""), TOP / "target/tools/bin", TOP / "target/tools/systemd-resolved", os.environ["PATH"], "/usr/lib/systemd"]


def rollcall():
    """The binary that is measured."""
    return os.environ.get("ROLLCALL", str(TOP / "target/release/rollcall"))


def found(name):
    """The path of a program; FileNotFoundError where there is none."""
    path = shutil.which(name, path=os.pathsep.join(str(place) for place in PLACES if place))
    if not path:
        raise FileNotFoundError(f"{name} is not installed, left out")
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def empty(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def dnsmasq(port, upstreams, *options, cache=10000):
    servers = [f"--server={address}#{at}" for address, at in upstreams]
    return ["dnsmasq", "-k", "-C", "/dev/null", "-p", port, "-R", "-h", "-c", cache, *servers, "--bind-interfaces", "--listen-address=127.0.0.1", "-0", 10000, "-u", "root", *options]


def unbound(folder, port, upstreams, server="", forward=""):
    servers = "".join(f" forward-addr: {address}@{at}\n" for address, at in upstreams)
    return ["unbound", "-d", "-c", write(folder / "unbound.conf", f"""server:
 interface: 127.0.0.1
 port: {port}
 do-daemonize: no
 username: ""
 chroot: ""
 pidfile: ""
 use-syslog: no
 logfile: ""
 module-config: "iterator"
 do-not-query-localhost: no
{server}forward-zone:
 name: "."
{servers}{forward}remote-control:
 control-enable: no
""")]


def named(folder, port, upstreams, options="", zones=""):
    place = empty(folder / "bind")
    servers = " ".join(f"{address} port {at};" for address, at in upstreams)
    return ["named", "-f", "-c", write(folder / "named.conf", f"""options {{ directory "{place}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes; forward only; forwarders {{ {servers} }}; dnssec-validation no; pid-file none; session-keyfile "{place}/session.key"; empty-zones-enable no; {options} }};
controls {{ }};
logging {{ category default {{ null; }}; }};
{zones}
""")]


def kresd(folder, port, upstreams, modules=""):
    servers = ", ".join(f"'{address}@{at}'" for address, at in upstreams)
    conf = write(folder / "kresd.conf", f"net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})\ntrust_anchors.remove('.')\ncache.size = 100*MB\n{modules}policy.add(policy.all(policy.FORWARD({{{servers}}})))\n")
    return ["kresd", "-n", "-q", "-c", conf, empty(folder / "kresd")]


def pdns_recursor(folder, port, *options):
    place = empty(folder / "pdns")
    return ["pdns_recursor", f"--config-dir={place}", f"--socket-dir={place}", "--local-address=127.0.0.1", f"--local-port={port}", "--dnssec=off", "--daemon=no", "--quiet=yes", "--disable-syslog", "--loglevel=0", "--dont-query=", *options]


def dnsdist(folder, port, upstreams, server="", cache="", more=""):
    servers = "".join(f"newServer({{address='{address}:{at}', sockets=8{server}}})\n" for address, at in upstreams)
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", write(folder / "dnsdist.conf", f"setLocal('127.0.0.1:{port}')\n{servers}pc=newPacketCache(20000, {{maxTTL=86400, minTTL=0{cache}}})\ngetPool(''):setCache(pc)\nsetACL({{'127.0.0.0/8'}})\nsetSecurityPollSuffix('')\n{more}")]


def smartdns(folder, port, upstreams, more=""):
    servers = "".join(f"server {address}:{at}\n" for address, at in upstreams)
    return ["smartdns", "-f", "-x", "-c", write(folder / "smartdns.conf", f"bind 127.0.0.1:{port}\n{servers}cache-size 20000\nspeed-check-mode none\ndualstack-ip-selection no\nlog-level error\nlog-file {folder}/smartdns.txt\ncache-persist no\nuser root\nmax-query-limit 65535\n{more}"), "-p", "-"]


def coredns(folder, port, upstreams, cache=""):
    servers = " ".join(f"{address}:{at}" for address, at in upstreams)
    return [found("coredns"), "-quiet", "-conf", write(folder / "Corefile", f".:{port} {{\n bind 127.0.0.1\n errors\n cache {{\n{cache} }}\n forward . {servers}\n}}\n")]


def resolved(folder, port, upstreams, more=""):
    """As root. It has its configuration and state below /run and lets go of root, for which it is given both in a mount
    namespace of its own; no bus is there, so that it takes no name of the machine's own."""
    program, place = found("systemd-resolved"), empty(folder / "resolved")
    servers = " ".join(f"{address}:{at}" for address, at in upstreams)
    write(place / "resolved.conf", f"[Resolve]\nDNS=\nDNS={servers}\nFallbackDNS=\nDomains=~.\nDNSSEC=no\nDNSOverTLS=no\nLLMNR=no\nMulticastDNS=no\nDNSStubListener=no\nDNSStubListenerExtra=udp:127.0.0.1:{port}\n{more}")
    write(place / "passwd", pathlib.Path("/etc/passwd").read_text() + "systemd-resolve:x:64999:64999::/:/usr/sbin/nologin\n")
    script = """set -e; cd "$1"; mount --bind passwd /etc/passwd; mount -t tmpfs none /run
mkdir -p /run/systemd/resolve /run/systemd/resolved.conf.d; chown systemd-resolve: /run/systemd/resolve
cp resolved.conf /run/systemd/resolved.conf.d/; exec "$2"
"""
    return ["unshare", "--mount", "sh", "-c", script, "sh", place, program]
