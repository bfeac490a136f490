//! How much is too much? Every bound, its unit and its reason.

use std::time::Duration;

// DNS queries.

/// Octets of a query over UDP. A question needs less than 300; the rest is room for cookies, padding and signatures.
/// What is longer is dropped.
pub const UDP_QUERY_MAX: usize = 4_096;

/// Octets of a query by TCP or TLS, in an HTTP request or on a QUIC stream: as over UDP, since many of them may arrive at one
/// time.
pub const STREAM_QUERY_MAX: usize = UDP_QUERY_MAX;

/// Secrets by which clients' cookies are known: the one in use, the former, the next, and one to spare. Each costs a hash for a
/// cookie that is of none of those before it.
pub const COOKIE_SECRETS_MAX: usize = 4;

/// Threads that answer on one address; each has a few sockets and some megabytes.
pub const WORKERS_MAX: usize = 1_024;

/// Queries that wait for an answer from elsewhere at one time, over all listeners. Each holds a few kilobytes; beyond
/// that the next one gets SERVFAIL at once. One client, and one domain, have half of them at most: 8,192 are what comes in
/// 2.5 s at 3,200 new names a second.
pub const QUERIES_WAITING_MAX: usize = 16_384;

/// Places where clients' and domains' shares of them are counted, at 8 octets each: half a megabyte. Those that
/// fall together have one share: a flood of one client below one domain meets with one in 16,000 others.
pub const WAITING_SHARES: usize = 65_536;

/// How long the end of the process waits for answers that are looked up: longer than upstreams take, and shorter than the
/// time after which clients ask another server.
pub const LAST_ANSWERS_TIME_MAX: Duration = Duration::from_secs(1);

/// Octets of a datagram that we send, and that we say we take: what passes every path unfragmented (RFC 9715, 3).
pub const UDP_PAYLOAD: u16 = 1232;

/// Octets of what an instance calls itself in its answers (RFC 5001), which have little room.
pub const NSID_OCTETS_MAX: usize = 64;

/// Clients whose queries are counted where `clients.rate` is given, at 8 octets each: half a megabyte. Beyond them, those that
/// have asked least are forgotten.
pub const RATE_CLIENTS_MAX: usize = 65_536;

/// Queries a second, and at once, that `clients.rate` and `clients.burst` may say, so that times can be reckoned with; a worker
/// answers less than that.
pub const RATE_MAX: u32 = 1_000_000;

/// Views of clients: each may have a cache of its own, and an upstream's sockets, and each worker has answers of each near.
pub const VIEWS_MAX: usize = 64;

/// Octets of answers that wait to be logged; beyond them answers are not logged, and that is counted. At 300,000 answers a
/// second, as text, that is a fifth of a second of a disk that stalls.
pub const QUERY_LOG_OCTETS_MAX: usize = 8 << 20;

/// Answers that a worker logs together.
pub const QUERY_LOG_BATCH: usize = 64;

// Clients' connections.

/// Connections that ask DNS questions, of all clients and listeners together, by TCP, TLS, HTTPS and QUIC; one more takes
/// the place of the one that was silent for longest.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Connections of one client address, so that one client cannot take all.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 128;

/// Connections by TCP of one listener that wait to be accepted.
pub const LISTEN_BACKLOG: i32 = 1_024;

/// Queries of one connection that are answered at one time; further ones wait in the socket (RFC 7766, 6.2.1.1), or are
/// streams that may not be opened yet.
pub const QUERIES_PER_CONNECTION_MAX: usize = 64;

/// Octets of answers that one connection's client has not taken: two of the longest. Of all connections together they are
/// 128 MB, and of one client's 16 MB. By TCP the kernel has as much again.
pub const ANSWER_OCTETS_PER_CONNECTION_MAX: usize = 128 << 10;

/// Octets that a client may send ahead of what is read, by HTTP/2 or QUIC, on a stream and on a connection.
pub const SENT_AHEAD_OCTETS_PER_STREAM_MAX: u32 = 16 << 10;
pub const SENT_AHEAD_OCTETS_PER_CONNECTION_MAX: u32 = 64 << 10;

/// Octets of the line and headers of an HTTP request that asks a DNS question: a longest query in a URL, in base64url, and
/// as much again for what browsers send along.
pub const DOH_HEAD_OCTETS_MAX: usize = 16 << 10;

/// Requests over HTTP/2 that a client gave up before they were looked at, and streams that were given up for its mistakes:
/// beyond that its connection ends (CVE-2023-44487, "rapid reset").
pub const DOH_RESETS_WAITING_MAX: usize = 20;
pub const DOH_MISTAKES_MAX: usize = 64;

/// Octets that are taken from one stream of HTTP/3: of a request, its head and its body with their frames.
pub const HTTP3_STREAM_OCTETS_MAX: usize = 2 * DOH_HEAD_OCTETS_MAX;

/// Connections by QUIC whose first packet waits to be looked at, and octets of theirs.
pub const QUIC_CONNECTIONS_WAITING_MAX: usize = 256;
pub const QUIC_OCTETS_WAITING_MAX: u64 = 1 << 20;

// Names that are known here.

/// Aliases that are followed within data of our own, and from it, for one question, so that a loop of them ends.
pub const ALIASES_MAX: usize = 8;

/// Octets of all hosts files together. The largest lists of unwanted names that people keep have 30 MB; in memory a
/// name takes some four times its line.
pub const HOSTS_OCTETS_MAX: u64 = 64 << 20;

/// Octets of all lease files together: a lease takes some 100, and dnsmasq gives 1,000 unless it is told otherwise.
pub const LEASES_OCTETS_MAX: u64 = 16 << 20;

/// Hosts files of one folder.
pub const HOSTS_FILES_MAX: usize = 10_000;

/// `[[rewrite]]`s: each is looked at beside each other one when they are read, to find circles.
pub const REWRITES_MAX: usize = 1_000;

/// Octets of one zone's master file with all that it includes: some million records.
pub const ZONE_OCTETS_MAX: usize = 64 << 20;

/// Zone files of one folder.
pub const ZONES_MAX: usize = 10_000;

/// Records of one name and type in a zone. More A records than these do not fit a message.
pub const RRSET_RECORDS_MAX: usize = 4_096;

/// How deep master files may include one another.
pub const ZONE_INCLUDES_MAX: usize = 8;

/// Octets of prepared answers from zones, their keys included; beyond that the least used are prepared again when asked.
pub const ZONE_ANSWERS_OCTETS_MAX: u64 = 16 << 20;

/// Octets of all block lists together, each counted once a [[block]]: those of the largest collections ten times over. They
/// are read line by line.
pub const BLOCK_OCTETS_MAX: u64 = 512 << 20;

/// Names of all block lists together, at some 11 octets each, and three times that while they are loaded.
pub const BLOCK_NAMES_MAX: usize = 20_000_000;

/// Octets of a line of a block list. A line of a hosts file may have several names.
pub const BLOCK_LINE_OCTETS_MAX: u64 = 16 << 10;

/// `[[block]]`s; each that has lists costs a look-up for each label of a name.
pub const BLOCKS_MAX: usize = 64;

/// Aliases of an answer that are looked up in block lists: no resolver follows more. An answer with more is not passed on.
pub const ALIASES_JUDGED_MAX: usize = 16;

/// Addresses of an answer that are looked up in block lists, each by as many probes as there are lengths of networks: four
/// times what passes in a datagram. An answer with more is not passed on.
pub const ADDRESSES_JUDGED_MAX: usize = 256;

// Upstreams.

/// How long a look-up may take, at least and at most: below, no far upstream could answer in time; above, look-ups that nobody
/// waits for any more would take the places of others.
pub const LOOKUP_TIME_MIN: Duration = Duration::from_millis(100);
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(60);

/// How often one question is sent to upstreams, all of them and all repetitions together.
pub const LOOKUP_ATTEMPTS_MAX: usize = 12;

/// Look-ups under way at upstreams. One may outlive its clients, who got a stale answer after a moment, by the whole of
/// its deadline, so that their own bound is none for it. Beyond it a query fails at once.
pub const LOOKUPS_MAX: usize = 20_000;

/// Upstream questions that one question about the discovery domain may cost: one for each name outside the domain that
/// instances have for an address.
pub const CHASES_MAX: usize = 16;

/// Look-ups that have ended and still listen for a late reply for a second, at about a kilobyte each; beyond it nobody does,
/// and nothing is learnt.
pub const LATE_LISTENERS_MAX: usize = 4_096;

/// UDP sockets for upstream queries, each on a random port: with a random id a forger has to guess one of
/// 256 x 65,536 (RFC 5452, 9.2). They are bound as they are needed.
pub const UPSTREAM_SOCKETS: usize = 256;

/// Such sockets of all workers and upstreams together, however many files there may be. Where there may be few, a quarter of
/// them; what is asked beyond that leaves by a socket that is open.
pub const UPSTREAM_SOCKETS_MAX: usize = 65_536;

/// The least of the ports that may be written for them (RFC 5452, 9.2), and how many there have to be: with the id, a forger
/// has to guess one of 67 million, and a few workers find one that is free.
pub const UPSTREAM_PORT_MIN: u16 = 1_024;
pub const UPSTREAM_PORTS_MIN: u32 = 1_024;

/// Queries after which such a socket is replaced by one on another port.
pub const UPSTREAM_SOCKET_USES: u32 = 10_000;

/// Wrong replies at one such socket after which it is closed and what waits there is asked otherwise: a forger has so many
/// guesses of 65,536 at each socket that he finds (RFC 5452, 9.3). An upstream that answers late has some too.
pub const UPSTREAM_SOCKET_STRAYS_MAX: u32 = 100;

/// Queries that wait on one such socket; far below the 65,536 ids, so that a free one is found at once.
pub const UPSTREAM_QUERIES_PER_SOCKET_MAX: usize = 1_024;

/// Connections to one upstream at one time, over TCP, TLS, HTTP or QUIC. Servers give one client few;
/// more than one or two are made only while each has as many queries as stands below.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 8;

/// Queries under way on one connection to an upstream from which on another one is made: as many streams as HTTP/2
/// servers let be open at least (RFC 9113, 6.5.2).
pub const UPSTREAM_QUERIES_PER_CONNECTION: usize = 100;

/// Queries under way on one connection to an upstream at most, while no other one can be made; the next fails at once.
pub const UPSTREAM_QUERIES_PER_CONNECTION_MAX: usize = 2_048;

/// Octets of the headers of an upstream's HTTP response.
pub const UPSTREAM_HTTP_HEAD_OCTETS_MAX: u32 = 16 << 10;

/// Questions that one worker has under way at upstreams by itself, at about 500 octets each; a look-up of the general kind
/// sees to the rest.
pub const RELAY_FLIGHTS_MAX: usize = 4_096;

/// Clients that wait for one of them besides the first.
pub const RELAY_ASKERS_MAX: usize = 64;

// What upstreams answered.

/// Octets of the file that keeps answers over a restart; what does not find room is asked for again.
pub const CACHE_FILE_OCTETS_MAX: usize = 256 << 20;

/// Names above a question's that are looked up among those that do not exist; each costs a look into the cache, and few names
/// have more labels.
pub const DENIALS_ABOVE_MAX: usize = 8;

/// Questions that failed and are remembered, at some 300 octets each; beyond that, those that came up least are forgotten.
pub const FAILURES_MAX: usize = 10_000;

/// Answers that are fetched anew before their end, at one time; the next one waits.
pub const PREFETCHES_MAX: usize = 32;

/// How long after one of them the next is begun at the earliest: 200 a second, which is little for any upstream and as
/// much as 10,000 popular names of a minute's TTL need.
pub const PREFETCH_PAUSE: Duration = Duration::from_millis(5);

/// Those that wait; one more has to be asked for again.
pub const PREFETCHES_WAITING_MAX: usize = 256;

// DNSSEC.

/// Look-ups that one answer's validation may cost (keys, DS records, where zones begin). A name of twenty labels in five zones
/// takes some thirty of them; beyond it the answer counts as bogus.
pub const VALIDATION_LOOKUPS_MAX: usize = 100;

/// How long a validation may take, the look-ups included.
pub const VALIDATION_TIME_MAX: Duration = Duration::from_secs(5);

/// Signatures of one set of records that are looked at. A zone that changes its keys or algorithm has two to four.
/// With the next three this bounds what a zone that is made for it costs (CVE-2023-50387): some 300 verifications a set of
/// keys, 150 an answer, at 0.05 to 0.5 ms each.
pub const SIGNATURES_PER_RRSET_MAX: usize = 8;

/// Keys of a zone, and DS records of one; zones have two to six.
pub const KEYS_PER_ZONE_MAX: usize = 32;

/// NSEC or NSEC3 records of one answer that are looked at; a proof takes three (CVE-2023-50868).
pub const DENIALS_MAX: usize = 8;

/// Sets of records whose signatures are remembered as right or wrong, of one trust anchor, at some 300 octets each.
pub const VALIDATED_RRSETS_MAX: usize = 10_000;

// The registry.

/// Health checks that run at one time. Each holds a socket or two, or a process; the next one waits until one ends, so
/// that many targets that hang delay the others, but cannot use up the process's files.
pub const CHECKS_RUNNING_MAX: usize = 512;

/// The shortest time between two runs of a check, so that a slip of the unit (`10ms`) is no attack on the target.
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The longest time that is waited for in health checks: what is longer (100 years and more) is never.
pub const CHECK_SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reports of checks that wait for the registry; a check that reports beyond that waits.
pub const CHECK_REPORTS_WAITING_MAX: usize = 1_024;

/// Octets of the registry's journal; with more, a write waits until the database has taken them.
pub const JOURNAL_OCTETS_MAX: u64 = 64 << 20;

/// Rows that the database takes at one time, since writes wait meanwhile.
pub const REGISTRY_ROWS_PER_COMMIT_MAX: usize = 20_000;

/// Writes to the registry that wait for the writer; further callers wait for a place.
pub const REGISTRY_WRITES_WAITING_MAX: usize = 4_096;

/// Writes that share one commit, so that none waits for an endless batch.
pub const REGISTRY_WRITES_PER_COMMIT_MAX: usize = 1_024;

/// Deleted keys that are remembered for watchers of a key prefix. A deletion costs about 100 octets; 65,536 of them
/// stay below 10 MB.
pub const KV_TOMBSTONES_MAX: usize = 65_536;

/// Octets of a key's value, as in Consul.
pub const KV_VALUE_OCTETS_MAX: usize = 512 << 10;

// The HTTP API.

/// HTTP connections of all clients together; each may hold one blocking query. Beyond it, new ones wait to be accepted.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;

/// Octets of an HTTP request's line and headers.
pub const HTTP_HEAD_OCTETS_MAX: usize = 64 << 10;

/// Octets of an HTTP request's body. The largest that Consul takes is a key's value, half as long.
pub const HTTP_BODY_OCTETS_MAX: usize = 1 << 20;

/// Seconds that a client may take to send a request's head, an idle connection's wait for it included.
pub const HTTP_HEAD_SECONDS_MAX: u64 = 75;

/// Seconds that a client may take to send a request's body.
pub const HTTP_BODY_SECONDS_MAX: u64 = 30;

/// Seconds that a blocking query waits when it does not say, and at most.
pub const BLOCKING_SECONDS_DEFAULT: u64 = 300;
pub const BLOCKING_SECONDS_MAX: u64 = 600;

/// How deep a JSON body may nest; the decoder behind it stops at 128 anyway.
pub const JSON_DEPTH_MAX: usize = 100;

/// A filter expression's length in octets; clients' longest are a few hundred.
pub const FILTER_OCTETS_MAX: usize = 16 << 10;

/// How deep a filter's parentheses and `not`s may nest; each level costs a few stack frames.
pub const FILTER_DEPTH_MAX: usize = 64;

/// What one compiled pattern of a filter may weigh, in octets.
pub const FILTER_PATTERN_OCTETS_MAX: usize = 256 << 10;

// Files that people write.

/// Octets of a configuration file, ours or Consul's: a thousand times what the longest have.
pub const CONFIG_OCTETS_MAX: u64 = 64 << 20;

/// Octets of a services file. A million instances are some 300 MB.
pub const SERVICES_FILE_OCTETS_MAX: u64 = 1 << 30;

/// Octets of a certificate's file, of its key's, and of one with certificates of authorities: a system's own has 220 KB.
pub const CERTIFICATE_OCTETS_MAX: u64 = 1 << 20;

/// Octets of all files of one import together, and how many there may be: the longest lists of unwanted names included.
pub const IMPORT_OCTETS_MAX: u64 = 64 << 20;
pub const IMPORT_FILES_MAX: usize = 1_000;

/// How deep imported files may include one another; each level costs a few stack frames.
pub const IMPORT_DEPTH_MAX: usize = 32;

/// Problems that are told of one file; the rest are counted. A file of the wrong kind has one on every line.
pub const PROBLEMS_PER_FILE_MAX: usize = 20;
