//! The commands, apart from those that the walkthrough shows.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::rollcall::{BINARY, Launch, directory};
use crate::support::tools;

#[test]
fn help_names_every_command() {
    let directory = directory();
    let help = Launch::bare(directory.path()).with("--help").run().ok();
    for command in ["serve", "agent", "services", "catalog", "members", "query", "check"] {
        assert!(help.contains(command), "{command} is missing in:\n{help}");
        Launch::bare(directory.path()).with(command).with("--help").run().ok();
    }
    let version = Launch::bare(directory.path()).with("--version").run().ok();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert_eq!(Launch::bare(directory.path()).with("no-such-command").run().status, 2);
}

#[test]
fn the_http_api_is_found_by_flag_and_by_either_variable() {
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).start();
    rollcall
        .http
        .accepts("/v1/agent/service/register", &json!({"ID": "a", "Name": "found", "Address": "192.0.2.1", "Port": 1}));
    let address = rollcall.http.address.to_string();
    for (variable, value) in [
        ("ROLLCALL_HTTP_ADDR", address.clone()),
        ("CONSUL_HTTP_ADDR", address.clone()),
        ("CONSUL_HTTP_ADDR", format!("http://{address}")),
    ] {
        let mut command = Command::new(BINARY);
        command.env_remove("ROLLCALL_HTTP_ADDR").env_remove("CONSUL_HTTP_ADDR").env(variable, value);
        let said = tools::run(command.args(["catalog", "services"])).ok();
        assert!(said.lines().any(|line| line == "found"), "{said}");
    }
    assert!(rollcall.cli(["catalog", "services"]).ok().lines().any(|line| line == "found"));
}

#[test]
fn an_agent_that_is_not_there_is_an_error_that_says_where_it_looked() {
    let directory = directory();
    let address = format!("127.0.0.1:{}", crate::support::free_port());
    let said = Launch::bare(directory.path()).with("catalog").with("services").option("--http-addr", &address).run().failed();
    assert!(said.contains(&address) && said.contains("hint"), "{said}");
}

#[test]
fn services_are_registered_by_flags_and_deregistered_by_id() {
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).start();
    let said = rollcall
        .cli(["services", "register", "-name=web", "-id=web-1", "-address=192.0.2.10", "-port=8080", "-tag=a", "-tag=b"])
        .ok();
    assert_eq!(said.trim(), "Registered service: web");
    assert_eq!(rollcall.ask("web.service.consul", "A").answers(), ["192.0.2.10"]);
    assert_eq!(rollcall.ask("b.web.service.consul", "A").answers(), ["192.0.2.10"]);
    let srv = rollcall.ask("web.service.consul", "SRV");
    assert_eq!(srv.answers().len(), 1);
    assert!(srv.answers()[0].starts_with("1 1 8080 "), "{srv:?}");
    assert!(srv.additionals().iter().any(|data| data == "192.0.2.10"), "{srv:?}");
    let said = rollcall.cli(["services", "deregister", "-id=web-1"]).ok();
    assert_eq!(said.trim(), "Deregistered service: web-1");
    assert!(rollcall.ask("web.service.consul", "A").answers().is_empty());
    assert_eq!(rollcall.cli(["services", "register"]).status, 1, "neither a file nor a name");
    rollcall.cli(["services", "deregister", "-id=web-1"]).failed();
}

#[test]
fn query_asks_and_says_who_answered() {
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).start();
    rollcall
        .http
        .accepts("/v1/agent/service/register", &json!({"ID": "a", "Name": "asked", "Address": "192.0.2.1", "Port": 1}));
    let server = rollcall.dns.to_string();
    let query = |words: &[&str]| {
        let mut launch = Launch::bare(directory.path()).with("query").option("--dns", &server);
        for word in words {
            launch = launch.with(word);
        }
        launch.run()
    };
    assert!(query(&["asked.service.consul"]).ok().contains("192.0.2.1"));
    assert!(query(&["asked.service.consul", "SRV"]).ok().contains(" 1 1 1 "), "an SRV record's numbers");
    let text = query(&["asked.service.consul", "A", "--json"]).ok();
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert!(json.to_string().contains("192.0.2.1"), "{json}");
    assert_eq!(query(&["absent.service.consul"]).status, 1, "the answer is no");
}

#[test]
fn check_judges_what_ships() {
    let directory = directory();
    let config = crate::support::project("zones/rollcall.toml");
    let sample = crate::support::project("zones/sample-service.json");
    assert!(config.is_file() && sample.is_file(), "the samples that ship");
    let said = Launch::bare(directory.path()).with("check").option("--config", config).option("--services", sample).run().ok();
    assert!(said.contains("(services: 3, checks: 3)"), "it says what it found: {said}");
}
