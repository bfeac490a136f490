//! Hosts files, leases and zone files that change while questions are asked: as editors, deployments, DHCP servers and mishaps
//! change them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use hickory_proto::op::ResponseCode;

use crate::support::namespace;
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::run;
use crate::support::upstream::Witness;
use crate::support::{slack, within};

/// Half a second of quiet, and the reading.
const SOON: Duration = Duration::from_secs(1);

fn start(directory: &Path, upstream: &Witness, toml: &str) -> Rollcall {
    let path = directory.join("rollcall.toml");
    fs::write(&path, toml).expect("written");
    let upstream = upstream.address.to_string();
    Launch::serve(directory).option("--config", path).option("--upstream", upstream).start()
}

/// Puts a file in the place of another, at once.
fn replace(path: &Path, text: &str) {
    let new = path.with_file_name(".new");
    fs::write(&new, text).expect("written");
    fs::rename(&new, path).expect("renamed");
}

/// Waits until a name has these addresses.
fn becomes(rollcall: &Rollcall, name: &str, addresses: &[&str]) {
    within(slack(SOON), &format!("{name} is {addresses:?}"), || match rollcall.ask(name, "A").answers() {
        found if found == addresses => Ok(()),
        found => Err(format!("{found:?}\n{}", rollcall.stderr())),
    });
}

/// Waits until it was said.
fn says(rollcall: &Rollcall, what: &str) {
    within(slack(SOON), what, || match rollcall.stderr() {
        said if said.contains(what) => Ok(()),
        said => Err(said),
    });
}

#[test]
fn hosts_files_are_followed() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let witness = Witness::start();
    fs::create_dir(path("hosts.d")).expect("made");
    fs::write(path("hosts"), "192.0.2.1 one.test.example\n").expect("written");
    fs::write(path("hosts.d/a"), "192.0.2.2 two.test.example\n").expect("written");
    fs::write(path("list"), "blocked.example\n").expect("written");
    // The view has what the others have.
    let rollcall = start(
        directory.path(),
        &witness,
        "hosts = [\"hosts\", \"hosts.d\"]\n[[block]]\nlists = [\"list\"]\n[[view]]\nname = \"other\"\nclients = [\"192.0.2.0/24\"]\n",
    );
    becomes(&rollcall, "one.test.example", &["192.0.2.1"]);
    // Kept of the upstream, and near the worker; the hosts file comes first from when it has the name.
    assert_eq!(rollcall.ask("three.test.example", "A").answers(), [Witness::ANSWER]);

    replace(&path("hosts"), "192.0.2.11 one.test.example\n");
    becomes(&rollcall, "one.test.example", &["192.0.2.11"]);
    fs::write(path("hosts"), "192.0.2.21 one.test.example\n").expect("written in place");
    becomes(&rollcall, "one.test.example", &["192.0.2.21"]);
    assert_eq!(rollcall.ask("21.2.0.192.in-addr.arpa", "PTR").answers(), ["one.test.example."]);
    fs::write(path("hosts.d/b"), "192.0.2.3 three.test.example\n").expect("written");
    becomes(&rollcall, "three.test.example", &["192.0.2.3"]);
    fs::remove_file(path("hosts.d/b")).expect("removed");
    becomes(&rollcall, "three.test.example", &[Witness::ANSWER]);

    // A bad line costs itself. A file that cannot be read, or is gone, says on what it said.
    replace(&path("hosts"), "192.0.2.31 one.test.example\n192.0.2.300 bad\n");
    becomes(&rollcall, "one.test.example", &["192.0.2.31"]);
    says(&rollcall, "hosts:2:1: expected an IPv4 or IPv6 address, got \"192.0.2.300\"");
    fs::remove_file(path("hosts")).expect("removed");
    says(&rollcall, "what it said last counts meanwhile");
    assert_eq!(rollcall.ask("one.test.example", "A").answers(), ["192.0.2.31"]);
    replace(&path("hosts"), "192.0.2.41 one.test.example\n");
    becomes(&rollcall, "one.test.example", &["192.0.2.41"]);
    // The folder goes, and comes as another one.
    fs::rename(path("hosts.d"), path("away")).expect("renamed");
    says(&rollcall, "hosts.d: cannot read this hosts file, what it said last counts meanwhile");
    assert_eq!(rollcall.ask("two.test.example", "A").answers(), ["192.0.2.2"]);
    fs::create_dir(path("hosts.d")).expect("made");
    fs::write(path("hosts.d/a"), "192.0.2.12 two.test.example\n").expect("written");
    becomes(&rollcall, "two.test.example", &["192.0.2.12"]);
    assert!(!rollcall.stderr().contains("block lists were read again"), "{}", rollcall.stderr());
    assert_eq!(rollcall.ask("blocked.example", "A").rcode(), ResponseCode::NXDomain);
}

/// As a container's hosts file is mounted by itself: the kernel tells nothing to who watches the folder.
#[test]
fn a_file_behind_a_link_is_followed() {
    let directory = directory();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    fs::create_dir(directory.path().join("etc")).expect("made");
    let witness = Witness::start();
    fs::write(elsewhere.join("hosts"), "192.0.2.1 one.test.example\n").expect("written");
    std::os::unix::fs::symlink(elsewhere.join("hosts"), directory.path().join("etc/hosts")).expect("linked");
    let rollcall = start(directory.path(), &witness, "hosts = [\"etc/hosts\"]\n");
    becomes(&rollcall, "one.test.example", &["192.0.2.1"]);
    fs::write(elsewhere.join("hosts"), "192.0.2.2 one.test.example\n").expect("written");
    within(slack(Duration::from_secs(11)), "what is behind the link", || {
        match rollcall.ask("one.test.example", "A").answers() {
            found if found == ["192.0.2.2"] => Ok(()),
            found => Err(format!("{found:?}")),
        }
    });
}

#[test]
fn zone_files_are_followed() {
    let directory = directory();
    let path = |name: &str| directory.path().join("zones").join(name);
    fs::create_dir(directory.path().join("zones")).expect("made");
    let witness = Witness::start();
    let zone = |address: &str| format!("@ 60 SOA ns hostmaster 1 2 3 4 5\nwww A {address}\n$INCLUDE part\n");
    fs::write(path("own.example.zone"), zone("192.0.2.1")).expect("written");
    fs::write(path("part"), "sub A 192.0.2.5\n").expect("written");
    fs::write(path("other.example.zone"), zone("192.0.2.9")).expect("written");
    let rollcall = start(directory.path(), &witness, "hosts = []\n[zones]\nfolder = \"zones\"\n");
    becomes(&rollcall, "www.own.example", &["192.0.2.1"]);
    becomes(&rollcall, "sub.own.example", &["192.0.2.5"]);

    replace(&path("own.example.zone"), &zone("192.0.2.2"));
    becomes(&rollcall, "www.own.example", &["192.0.2.2"]);
    replace(&path("part"), "sub A 192.0.2.6\n");
    becomes(&rollcall, "sub.own.example", &["192.0.2.6"]);
    replace(&path("own.example.zone"), "www A not.an.address (\n");
    says(&rollcall, "the last good form of own.example. is served meanwhile");
    assert_eq!(rollcall.ask("www.own.example", "A").answers(), ["192.0.2.2"]);
    // Another zone comes, and may change, while the bad one is served on.
    fs::write(path("new.example.zone"), zone("192.0.2.7")).expect("written");
    becomes(&rollcall, "www.new.example", &["192.0.2.7"]);
    assert_eq!(rollcall.ask("www.own.example", "A").answers(), ["192.0.2.2"]);
    assert_eq!(rollcall.stderr().matches("own.example. is served meanwhile").count(), 1, "{}", rollcall.stderr());
    replace(&path("own.example.zone"), &zone("192.0.2.3"));
    becomes(&rollcall, "www.own.example", &["192.0.2.3"]);
    fs::remove_file(path("own.example.zone")).expect("removed");
    becomes(&rollcall, "www.own.example", &[Witness::ANSWER]);
    // Nothing is taken away with the folder.
    fs::rename(directory.path().join("zones"), directory.path().join("away")).expect("renamed");
    says(&rollcall, "cannot read the folder of zone files");
    assert_eq!(rollcall.ask("www.other.example", "A").answers(), ["192.0.2.9"]);
    fs::rename(directory.path().join("away"), directory.path().join("zones")).expect("renamed");
    replace(&path("other.example.zone"), &zone("192.0.2.8"));
    becomes(&rollcall, "www.other.example", &["192.0.2.8"]);
}

/// dnsmasq gives addresses to a machine, here at the other end of a cable, and rollcall answers its name from then on.
#[test]
fn leases_of_a_dhcp_server_are_followed() {
    let cable =
        "ip link add v0 type veth peer name v1\nip addr add 198.51.100.1/24 dev v0\nip link set v0 up\nip link set v1 up";
    if !namespace::enter("local_files::leases_of_a_dhcp_server_are_followed", cable) {
        return;
    }
    let directory = directory();
    let leases = directory.path().join("leases");
    let witness = Witness::start();
    let toml = "hosts = []\nleases = [\"leases\"]\nleases_domain = \"lan\"\n";
    let rollcall = start(directory.path(), &witness, toml);
    // The file is not there yet.
    says(&rollcall, "leases: cannot read this lease file");
    assert_eq!(rollcall.ask("laptop.lan", "A").answers(), [Witness::ANSWER]);

    let arguments = ["--keep-in-foreground", "--log-facility=-", "--pid-file=", "--user=root", "-C", "/dev/null", "--port=0"];
    let mut dnsmasq = Command::new("env");
    dnsmasq.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "dnsmasq"]).args(arguments);
    dnsmasq.args(["--interface=v0", "--bind-interfaces", "--no-ping", "--dhcp-range=198.51.100.50,198.51.100.50,2m"]);
    let mut dnsmasq = dnsmasq.arg(format!("--dhcp-leasefile={}", leases.display())).spawn().expect("dnsmasq starts");
    // It asks until dnsmasq is there.
    let ask = "busybox udhcpc -i v1 -f -q -n -t 30 -T 1 -s /bin/true -x hostname:laptop";
    let asked = run(Command::new("sh").args(["-c", ask]));
    asked.ok();
    becomes(&rollcall, "laptop.lan", &["198.51.100.50"]);
    becomes(&rollcall, "laptop", &["198.51.100.50"]);
    assert_eq!(rollcall.ask("50.100.51.198.in-addr.arpa", "PTR").answers(), ["laptop.lan."]);
    dnsmasq.kill().expect("it ends");
    dnsmasq.wait().expect("it has ended");

    // A lease ends, though nobody is there to take it out of the file.
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs();
    let text = format!("{} 02:00:00:00:00:01 198.51.100.51 phone *\nnobody knows\n0 x 198.51.100.52 stays *\n", now + 8);
    replace(&leases, &text);
    becomes(&rollcall, "phone.lan", &["198.51.100.51"]);
    says(&rollcall, "leases:2:1: expected four words at least, got \"nobody knows\"");
    within(slack(2 * SOON), "phone's lease has ended", || match rollcall.ask("phone.lan", "A").answers() {
        found if found == [Witness::ANSWER] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    assert_eq!(rollcall.ask("stays", "A").answers(), ["198.51.100.52"]);
    assert_eq!(rollcall.ask("laptop.lan", "A").answers(), [Witness::ANSWER]);
}
