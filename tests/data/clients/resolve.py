"""Asks for each name: `system NAME...` as any program does; `PROTOCOL ADDRESS PORT NAME...` with dnspython, where what is
encrypted is asked of dns.example, whom the authority in ca.pem knows."""
import socket
import sys

WAY, *NAMES = sys.argv[1:]


def addresses(name):
    try:
        return [found[4][0] for found in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)]
    except socket.gaierror as error:
        return None if error.errno == socket.EAI_NONAME else [str(error)]


def library(way, address, port):
    import dns.nameserver
    import dns.resolver

    host, port, ca = "dns.example", int(port), "ca.pem"
    servers = {
        "udp": lambda: dns.nameserver.Do53Nameserver(address, port),
        "tls": lambda: dns.nameserver.DoTNameserver(address, port, host, ca),
        "https": lambda: dns.nameserver.DoHNameserver(f"https://{host}:{port}/dns-query", address, ca, True),
        "h3": lambda: dns.nameserver.DoHNameserver(
            f"https://{host}:{port}/dns-query", address, ca, http_version=dns.query.HTTPVersion.H3
        ),
        "quic": lambda: dns.nameserver.DoQNameserver(address, port, ca, host),
    }
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [servers[way]()]

    def ask(name):
        try:
            if name.startswith("_"):
                return [f"{record.target}{record.port}" for record in resolver.resolve(name, "SRV")]
            return [record.address for record in resolver.resolve(name, "A")]
        except dns.resolver.NXDOMAIN:
            return None

    return ask


ask = addresses
if WAY != "system":
    ask = library(WAY, *NAMES[:2])
    NAMES = NAMES[2:]
for name in NAMES:
    found = ask(name)
    print(f"{name}:", "not found" if found is None else " ".join(found))
