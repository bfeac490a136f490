//! Network and mount namespaces of a test's own, in which it has every address and port and is the machine's resolver.
//! They vanish with it. Making them needs root.

use std::env;
use std::fs;
use std::process::Command;

use super::rollcall::directory;

/// Set in the process that runs inside.
const INSIDE: &str = "ROLLCALL_TEST_INSIDE_NAMESPACE";

/// Are we inside? If not, runs this test, by its full name, again in fresh namespaces, where the machine asks 127.0.0.1 and
/// the shell commands of `script` were run before.
pub(crate) fn enter(test: &str, script: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let directory = directory();
    let resolv = directory.path().join("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.1\n").expect("written");
    let mount = format!("mount --bind '{}' \"$(readlink -f /etc/resolv.conf)\"", resolv.display());
    let script = format!("set -e\nip link set lo up\n{mount}\n{script}\nexec \"$@\"\n");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--", "sh", "-c", &script, "inside"]);
    command.arg(env::current_exe().expect("a test knows its own path"));
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let status = command.status().expect("unshare starts; scripts/test installs what the tests run");
    assert!(status.success(), "inside the namespace: {status}; making one needs root, iproute2 and util-linux");
    false
}
