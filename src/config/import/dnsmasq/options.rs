//! dnsmasq's options by their names: those that become something here, and those that become nothing, each with the reason.

use super::super::Left;
use crate::problem::nearest;

const KEEP_DNSMASQ: &str = "keep dnsmasq for it beside rollcall, on another port; port=0 switches its DNS off";
const FIREWALL: &str = "what depends on it would fail open or shut: keep dnsmasq for this, or change the firewall first";
const AUTHORITY: &str = "put the zone's master file into `zones.folder`, and transfer zones with an authoritative server";

/// Options that become something here.
const CARRIED: &str = "mx-target neg-ttl proxy-dnssec use-stale-cache address addn-hosts alias bind-dynamic bind-interfaces bogus-nxdomain bogus-priv caa-record cache-size cname conf-dir conf-file dhcp-lease dhcp-leasefile dns-rr dnssec \
    domain domain-needed domain-suffix edns-packet-max except-interface expand-hosts filter-A filter-AAAA \
    filter-rr host-record hostsdir ignore-address interface interface-name listen-address local local-service local-ttl \
    log-facility log-queries max-cache-ttl max-port max-ttl min-cache-ttl min-port mx-host naptr-record no-0x20-encode no-hosts no-negcache no-resolv no-round-robin port ptr-record \
    rebind-domain-ok rebind-localhost-ok resolv-file rev-server server servers-file srv-host stop-dns-rebind \
    strict-order all-servers trust-anchor txt-record";

/// Those that dnsmasq takes once; a second one is an error there, and left out here.
const ONCE: &str = "mx-target neg-ttl use-stale-cache cache-size edns-packet-max local-service local-ttl max-cache-ttl max-port max-ttl min-cache-ttl min-port port servers-file";

/// Flags, which take no value.
const FLAGS: &str = "proxy-dnssec all-servers bind-dynamic bind-interfaces bogus-priv dnssec domain-needed expand-hosts filter-A filter-AAAA no-0x20-encode no-hosts no-negcache no-resolv \
    no-round-robin rebind-localhost-ok stop-dns-rebind strict-order";

/// Options of dnsmasq that have no effect here: names, why, and what to do instead.
const LEFT_OUT: &[(&str, &str, &str)] = &[
    (
        "dhcp-range dhcp-host dhcp-hostsfile dhcp-hostsdir dhcp-option dhcp-option-force dhcp-option-pxe \
         dhcp-optsfile dhcp-optsdir dhcp-no-override dhcp-relay dhcp-split-relay dhcp-proxy dhcp-vendorclass \
         dhcp-userclass dhcp-mac dhcp-circuitid dhcp-remoteid dhcp-subscrid dhcp-match dhcp-name-match tag-if \
         dhcp-ignore dhcp-ignore-names dhcp-ignore-clid dhcp-generate-names dhcp-broadcast dhcp-boot \
         dhcp-sequential-ip dhcp-lease-max dhcp-authoritative dhcp-rapid-commit dhcp-alternate-port \
         bootp-dynamic no-ping leasefile-ro dhcp-script dhcp-luascript dhcp-scriptuser \
         script-arp script-on-renewal dhcp-duid dhcp-fqdn dhcp-client-update dhcp-reply-delay dhcp-ttl \
         leasequery bridge-interface shared-network read-ethers log-dhcp quiet-dhcp quiet-dhcp6",
        "rollcall gives no addresses (DHCP)",
        KEEP_DNSMASQ,
    ),
    ("enable-ra ra-param quiet-ra", "rollcall announces no routers", KEEP_DNSMASQ),
    (
        "enable-tftp tftp-root tftp-unique-root tftp-secure tftp-lowercase tftp-no-fail tftp-max tftp-mtu \
         tftp-no-blocksize tftp-port-range tftp-single-port quiet-tftp pxe-service pxe-prompt dhcp-pxe-vendor",
        "rollcall serves no files (TFTP) and boots no machines (PXE)",
        KEEP_DNSMASQ,
    ),
    ("ipset nftset", "rollcall puts no addresses into the kernel's sets", FIREWALL),
    ("connmark-allowlist connmark-allowlist-enable", "rollcall has no lists of allowed names for each mark", FIREWALL),
    ("conntrack", "rollcall passes no connection marks on to upstreams", FIREWALL),
    (
        "dnssec-debug",
        "who asks without CD gets no answer that is bogus, and who asks with it gets what there is",
        "take the line out; `rollcall explain NAME --ask` says why an answer is bogus",
    ),
    (
        "dnssec-no-timecheck dnssec-timestamp",
        "signatures hold only for their time, whatever the clock says",
        "`forward.dnssec.exceptions` leaves the names of the time servers unvalidated, until the clock is right",
    ),
    (
        "auth-server auth-zone auth-ttl auth-soa auth-sec-servers auth-peer",
        "rollcall is no public authority and gives no zone away",
        AUTHORITY,
    ),
    (
        "enable-dbus enable-ubus",
        "rollcall has no control over a bus",
        "who pushes servers through it (NetworkManager, openresolv) has to write `forward.upstreams`, and send SIGHUP",
    ),
    ("conf-script", "no program is run by an import", "run it yourself, and import its output as a file"),
    (
        "umbrella add-cpe-id add-mac strip-mac add-subnet",
        "rollcall tells upstreams nothing of its clients, and takes away of what they say themselves their network alone",
        "a filtering service that needs it has to be asked by the clients themselves",
    ),
    (
        "filterwin2k",
        "rollcall forwards SRV and SOA questions: without them no service is found",
        "take the line out; `forward.filter.without = [\"SOA\"]` drops a type from all answers",
    ),
    (
        "localise-queries",
        "rollcall gives all addresses of a local name, whoever asks",
        "give the name one address, or one name for each network",
    ),
    (
        "synth-domain dynamic-host",
        "rollcall makes up no names for addresses",
        "write the names that are needed as [[record]], or as a zone file in `zones.folder`",
    ),
    (
        "query-port",
        "rollcall asks upstreams from random ports, which is what guards it against forged answers",
        "let the firewall allow UDP and TCP to port 53 of the upstreams from any port, or from those of `forward.ports`",
    ),
    ("dumpfile dumpmask", "rollcall captures no packets", "tcpdump -w FILE port 53"),
    (
        "localmx selfmx",
        "rollcall makes up no MX records",
        "write them: [[record]] with type = \"MX\" and value = \"1 mail.example.\"",
    ),
    (
        "fast-dns-retry",
        "rollcall asks another upstream as soon as the first one is late",
        "`forward.timeout` says how long a look-up may take",
    ),
];

/// Options that say nothing of answers, or that ask for what rollcall does anyway.
const NEEDLESS: &[(&str, &str)] = &[
    (
        "user group pid-file keep-in-foreground no-daemon log-async log-debug",
        "the systemd unit decides on user, process and log",
    ),
    ("no-dhcp-interface no-dhcpv4-interface no-dhcpv6-interface", "it is about DHCP, which rollcall has not"),
    ("dns-loop-detect", "rollcall leaves its own addresses out of its upstreams"),
    ("dns-forward-max max-tcp-connections port-limit", "rollcall has its own limits"),
    ("cache-rr", "all types are kept"),
    ("strip-subnet", "upstreams are not told of a client's network, whatever the client says"),
    ("do-0x20-encode no-ident", "rollcall does so anyway"),
    ("dnssec-check-unsigned", "what is not signed has to be proved to be so, whenever answers are validated"),
    ("dnssec-limits", "rollcall has its own limits"),
    ("no-poll clear-on-reload", "resolv.conf is looked at every few seconds, and what is kept goes with other upstreams"),
    ("test help version", "it is for the command line"),
];

/// Those of them that decide who gets which answer, or what a firewall lets pass, or whose absence shows only later.
const REFUSED: &str = "ipset nftset connmark-allowlist connmark-allowlist-enable conntrack conf-script dnssec-debug auth-server \
    auth-zone";

/// The name as it stands in a list.
fn find(list: &'static str, name: &str) -> Option<&'static str> {
    list.split_ascii_whitespace().find(|own| *own == name)
}

/// The option's name, if it becomes something here.
pub(super) fn carried(name: &str) -> Option<&'static str> {
    find(CARRIED, name)
}

/// The option that is spelled most like it.
pub(super) fn near(name: &str) -> Option<&'static str> {
    let needless = NEEDLESS.iter().map(|(names, _)| *names);
    let lists = LEFT_OUT.iter().map(|(names, ..)| *names).chain(needless).chain([CARRIED]);
    nearest(name, lists.flat_map(str::split_ascii_whitespace))
}

pub(super) fn is_flag(name: &str) -> bool {
    find(FLAGS, name).is_some()
}

pub(super) fn is_once(name: &str) -> bool {
    find(ONCE, name).is_some()
}

/// Why an option becomes nothing: `Ok` when nothing is lost by it. `None` for one that is not in the tables.
pub(super) fn without_effect(name: &str) -> Option<Result<&'static str, Left>> {
    if let Some((_, why)) = NEEDLESS.iter().find(|(names, _)| find(names, name).is_some()) {
        return Some(Ok(why));
    }
    let (_, why, instead) = LEFT_OUT.iter().find(|(names, ..)| find(names, name).is_some())?;
    let left = Left::new(*why).hint(*instead);
    Some(Err(if find(REFUSED, name).is_some() { left.refused() } else { left }))
}
