//! The query log, as those see it who read it: text and JSON in a file, dnstap by BIND's own reader, and what becomes of it
//! when it cannot be written.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::{dig, run};
use crate::support::upstream::Witness;
use crate::support::{dns, within};

const SOON: Duration = Duration::from_secs(20);

fn configure(directory: &Path, log: &str) {
    fs::write(directory.join("rollcall.toml"), format!("[log]\n{log}\n")).expect("written");
}

fn start(directory: &Path, witness: &Witness, log: &str) -> Rollcall {
    configure(directory, log);
    let launch = Launch::serve(directory).option("--config", "rollcall.toml").option("--workers", "1");
    launch.option("--upstream", witness.address.to_string()).start()
}

fn lines(path: &Path, count: usize) -> Vec<String> {
    let (lines, _) = within(SOON, &format!("{count} lines in {}", path.display()), || {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') { Ok(lines) } else { Err(text) }
    });
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

fn metric(rollcall: &Rollcall, name: &str) -> u64 {
    let page = rollcall.http.get("/metrics").body;
    let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}: {page}"));
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn each_answer_is_a_line_and_a_moved_file_is_opened_anew() {
    let (directory, witness) = (directory(), Witness::start());
    let log = directory.path().join("queries.log");
    let rollcall = start(directory.path(), &witness, "queries = \"queries.log\"");
    let udp = |words: &str| dig(rollcall.dns, &format!("-b 127.0.0.9 {words}"));
    udp("www.example.net");
    udp("www.example.net AAAA");
    udp("WWW.example.net");
    udp("+tcp absent.service.consul SRV");
    udp("+edns=1 +noednsnegotiation localhost");
    udp("\\032\\010.service.consul");
    let lines = lines(&log, 6);
    let expected = [
        "udp www.example.net. A NOERROR forwarded",
        "udp www.example.net. AAAA NOERROR forwarded",
        "udp WWW.example.net. A NOERROR cache",
        "tcp absent.service.consul. SRV NXDOMAIN discovery",
        "udp localhost. A BADVERS invalid",
        "udp \\032\\010.service.consul. A NXDOMAIN discovery",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        let columns: Vec<&str> = line.split(' ').collect();
        let [time, client, transport, listener, name, qtype, rcode, source, upstream, took, size] = columns[..] else {
            panic!("{line}")
        };
        assert!(time.starts_with("20") && time.ends_with('Z') && client == "127.0.0.9", "{line}");
        assert_eq!(listener, rollcall.dns.to_string());
        assert_eq!([transport, name, qtype, rcode, source].join(" "), expected);
        assert!(source == "forwarded" && upstream == witness.address.to_string() || upstream == "-", "{line}");
        assert!(took.ends_with("us") && size.parse::<usize>().is_ok_and(|size| size > 20), "{line}");
    }
    // As logrotate does it.
    let moved = directory.path().join("queries.log.1");
    fs::rename(&log, &moved).expect("moved");
    rollcall.signal("HUP");
    within(SOON, "a new file", || fs::metadata(&log).map(drop).map_err(|error| error.to_string()));
    udp("after.service.consul");
    assert!(self::lines(&log, 1)[0].contains("after.service.consul."));
    self::lines(&moved, 6);
    assert_eq!(
        (metric(&rollcall, "rollcall_query_log_written_total"), metric(&rollcall, "rollcall_query_log_lost_total")),
        (7, 0)
    );

    // Another format and another file, without a restart; then none.
    configure(directory.path(), "queries = \"queries.json\"\nformat = \"json\"");
    rollcall.signal("HUP");
    let json = directory.path().join("queries.json");
    within(SOON, "another file", || fs::metadata(&json).map(drop).map_err(|error| error.to_string()));
    within(SOON, "a line in it", || {
        udp("www.example.net");
        let text = fs::read_to_string(&json).expect("a file");
        let line: Value = text.lines().next().and_then(|line| serde_json::from_str(line).ok()).ok_or("nothing yet")?;
        assert_eq!((line["name"].as_str(), line["client"].as_str()), (Some("www.example.net."), Some("127.0.0.9")));
        Ok(())
    });
    configure(directory.path(), "level = \"info\"");
    rollcall.signal("HUP");
    within(SOON, "no more metrics of it", || {
        let page = rollcall.http.get("/metrics").body;
        if page.contains("rollcall_query_log") { Err(page) } else { Ok(()) }
    });
}

#[test]
fn what_cannot_be_written_is_counted_and_told_once_and_dns_goes_on() {
    let (directory, witness) = (directory(), Witness::start());
    let missing = directory.path().join("not/there.log");
    for (target, told) in [
        ("/dev/full", "cannot write the query log: No space left on device"),
        ("not/there.log", "cannot open the query log: No such file or directory"),
        ("unix:nobody.sock", "cannot open the query log: No such file or directory"),
    ] {
        let rollcall = start(directory.path(), &witness, &format!("queries = \"{target}\""));
        for number in 0..200 {
            assert_eq!(rollcall.ask(&format!("n{number}.example.net"), "A").answers(), [Witness::ANSWER], "{target}");
        }
        within(SOON, "all to be lost", || match metric(&rollcall, "rollcall_query_log_lost_total") {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
        assert_eq!(rollcall.stderr().matches(told).count(), 1, "{target}: {}", rollcall.stderr());
        if target.starts_with("not") {
            fs::create_dir(missing.parent().expect("a folder")).expect("made");
            within(SOON, "a line when there is a place for it", || {
                rollcall.ask("www.example.net", "A");
                let text = fs::read_to_string(&missing).unwrap_or_default();
                if text.ends_with('\n') { Ok(()) } else { Err(text) }
            });
            assert!(rollcall.stderr().contains("queries are logged again"), "{}", rollcall.stderr());
        }
    }
    for (target, warns) in [("nowhere/queries.log", true), ("queries.log", false), ("unix:nobody.sock", false)] {
        configure(directory.path(), &format!("queries = \"{target}\""));
        let output = Launch::bare(directory.path()).with("check").option("--config", "rollcall.toml").run();
        assert_eq!((output.status, output.stderr.contains("the query log cannot be written")), (0, warns), "{output:?}");
    }
    configure(directory.path(), "queries = \"stderr\"\nformat = \"dnstap\"");
    let output = Launch::bare(directory.path()).with("check").option("--config", "rollcall.toml").run();
    assert!(output.stderr.contains("expected a file or a socket for dnstap"), "{output:?}");
}

/// A reader of frame streams on a socket, as `fstrm_capture` is one: it writes what it reads to a file.
fn capture(socket: &Path, file: &Path) -> mpsc::Receiver<()> {
    fn control(stream: &mut UnixStream) -> Option<(u32, Vec<u8>)> {
        let mut head = [0; 8];
        stream.read_exact(&mut head).ok()?;
        let mut rest = vec![0; u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize];
        stream.read_exact(&mut rest).ok()?;
        let kind = u32::from_be_bytes(*rest.first_chunk()?);
        Some((kind, [&head[..], &rest].concat()))
    }
    let (listener, mut file) = (UnixListener::bind(socket).expect("bound"), File::create(file).expect("made"));
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        let (kind, mut ready) = control(&mut stream).expect("READY");
        assert_eq!(kind, 4, "READY");
        ready[11] = 1;
        stream.write_all(&ready).expect("ACCEPT");
        let (kind, start) = control(&mut stream).expect("START");
        assert_eq!(kind, 2, "START");
        file.write_all(&start).expect("written");
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            if frame.is_empty() {
                let mut stop = [0; 8];
                stream.read_exact(&mut stop).expect("STOP");
                assert_eq!(stop, [0, 0, 0, 4, 0, 0, 0, 3]);
                file.write_all(&[&length[..], &stop].concat()).expect("written");
                stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5]).expect("FINISH");
                break;
            }
            stream.read_exact(&mut frame).expect("a frame");
            file.write_all(&[&length[..], &frame].concat()).expect("written");
        }
        let _ = done.send(());
    });
    ended
}

#[test]
fn dnstap_is_read_by_others() {
    let (directory, witness) = (directory(), Witness::start());
    let (socket, captured) = (directory.path().join("tap.sock"), directory.path().join("captured.tap"));
    let mut rollcall = start(directory.path(), &witness, "queries = \"unix:tap.sock\"\nformat = \"dnstap\"");
    assert_eq!(rollcall.ask("www.example.net", "A").answers(), [Witness::ANSWER], "with nobody who reads");
    let ended = capture(&socket, &captured);
    within(SOON, "somebody who reads", || {
        rollcall.ask("www.example.net", "A");
        match metric(&rollcall, "rollcall_query_log_written_total") {
            0 => Err("nothing is written".to_owned()),
            _ => Ok(()),
        }
    });
    dns::tcp(rollcall.dns, "absent.service.consul", "SRV").expect("an answer");
    rollcall.signal("TERM");
    rollcall.ended();
    ended.recv_timeout(SOON).expect("the stream has its end");
    let read = run(Command::new("dnstap-read").arg(&captured)).ok();
    assert!(read.contains(" CR 127.0.0.1:") && read.contains("www.example.net/IN/A"), "{read}");
    assert!(read.contains("TCP") && read.contains("absent.service.consul/IN/SRV"), "{read}");
    drop(rollcall);

    // A file, which a restart does not spoil.
    for _ in 0..2 {
        let mut rollcall = start(directory.path(), &witness, "queries = \"file.tap\"\nformat = \"dnstap\"");
        rollcall.ask("www.example.net", "A");
        rollcall.signal("TERM");
        rollcall.ended();
    }
    let files: Vec<_> = fs::read_dir(directory.path()).expect("listed").flatten().map(|entry| entry.path()).collect();
    let files = files.iter().filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("file.tap")));
    let read: Vec<String> = files.map(|path| run(Command::new("dnstap-read").arg(path)).ok()).collect();
    assert_eq!(read.len(), 2, "the former file is kept");
    assert!(read.iter().all(|read| read.contains("www.example.net/IN/A")), "{read:?}");
}

/// Who connects and then reads nothing holds up nobody.
#[test]
fn a_reader_that_stops_reading_costs_entries_and_no_answer() {
    let (directory, witness) = (directory(), Witness::start());
    let listener = UnixListener::bind(directory.path().join("tap.sock")).expect("bound");
    let rollcall = start(directory.path(), &witness, "queries = \"unix:tap.sock\"");
    let (_stuck, _) = listener.accept().expect("it connects at once");
    within(Duration::from_secs(60), "entries that are lost", || {
        for number in 0..500 {
            assert_eq!(rollcall.ask(&format!("n{number}.example.net"), "A").answers(), [Witness::ANSWER]);
        }
        match metric(&rollcall, "rollcall_query_log_lost_total") {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    });
    assert!(rollcall.stderr().contains("cannot write the query log"), "{}", rollcall.stderr());
}

#[test]
fn a_pipe_that_nobody_reads_is_told_and_written_to_when_somebody_does() {
    let (directory, witness) = (directory(), Witness::start());
    let pipe = directory.path().join("pipe");
    run(Command::new("mkfifo").arg(&pipe)).ok();
    let mut rollcall = start(directory.path(), &witness, "queries = \"pipe\"");
    rollcall.ask("first.example.net", "A");
    within(SOON, "the loss is told and counted", || {
        let (said, lost) = (rollcall.stderr(), metric(&rollcall, "rollcall_query_log_lost_total"));
        if said.contains("nobody reads from it") && lost > 0 { Ok(()) } else { Err(format!("{lost} {said}")) }
    });
    let (read, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(File::open(pipe).expect("a writer comes")).lines().map_while(Result::ok) {
            let _ = read.send(line);
        }
    });
    let mut number = 0;
    within(SOON, "a line is read", || {
        number += 1;
        rollcall.ask(&format!("name{number}.example.net"), "A");
        lines.try_recv().map_err(|error| error.to_string())
    });
    rollcall.signal("TERM");
    assert_eq!(rollcall.ended().code(), Some(0));
}
