//! The program itself, as a service manager and an operator run it.

use std::process::{Child, Command, Output, Stdio};

use hearthgate::admin::ReloadOutcome::Refused;

use crate::harness::{FakeHomeAssistant, Gate, RawUpstream, Setup, eventually};

/// `EX_CONFIG` of sysexits.h: a service manager should not try again.
const BAD_CONFIG: Option<i32> = Some(78);

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the story went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program to its end. Serving for ever is a failure.
pub async fn hearthgate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthgate"));
    command.args(arguments).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    eventually("the end of the program", || child.0.try_wait().unwrap().is_some()).await;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    std::io::copy(&mut child.0.stdout.take().unwrap(), &mut stdout).unwrap();
    std::io::copy(&mut child.0.stderr.take().unwrap(), &mut stderr).unwrap();
    Output { status: child.0.wait().unwrap(), stdout, stderr }
}

/// What it says when all goes well.
pub async fn answer_of(arguments: &[&str]) -> String {
    let output = hearthgate(arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_and_a_key_that_do_not_match_are_bad_configuration() {
    let upstream = RawUpstream::start().await;
    let (directory, authority, file) = Setup::new(upstream.address).lay_out();
    let config = file.to_str().unwrap();
    let good = hearthgate(&["check", "--config", config]).await;
    assert_eq!(good.status.code(), Some(0), "{}", complaint(&good));

    std::fs::write(directory.path().join("ha.test.key.pem"), authority.issue(&["ha.test"]).key).unwrap();
    for command in ["check", "run"] {
        let bad = hearthgate(&[command, "--config", config]).await;
        assert_eq!(bad.status.code(), BAD_CONFIG, "{command}: {}", complaint(&bad));
        assert!(complaint(&bad).contains("ha.test"), "{command} does not name the host: {}", complaint(&bad));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_there_is_bad_configuration() {
    let upstream = RawUpstream::start().await;
    let (directory, _, file) = Setup::new(upstream.address).lay_out();
    std::fs::remove_file(directory.path().join("ha.test.chain.pem")).unwrap();
    for command in ["check", "run"] {
        let bad = hearthgate(&[command, "--config", file.to_str().unwrap()]).await;
        assert_eq!(bad.status.code(), BAD_CONFIG, "{command}: {}", complaint(&bad));
        assert!(complaint(&bad).contains("ha.test.chain.pem"), "{command}: {}", complaint(&bad));
    }
}

/// The file is broken, but says well enough where the gate is that runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_a_broken_file_reaches_the_running_gate_and_tells_what_is_wrong() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let good = std::fs::read_to_string(&gate.file).unwrap();
    // Without `admin.socket` the state directory says where the socket is.
    let socket = format!("socket: {}/admin.sock", gate.directory.path().display());
    let state_directory = format!("{}/state", gate.directory.path().display());
    assert!(good.contains(&socket) && good.contains(&state_directory));
    let bad = good
        .replace(&format!("admin: {{listen: off, {socket}}}"), "admin: {listen: off}")
        .replace(&state_directory, gate.directory.path().to_str().unwrap())
        .replace("upstream:", "upstraem:");
    std::fs::write(&gate.file, bad).unwrap();

    let output = hearthgate(&["reload", "--config", gate.file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("refused, generation 1 goes on"), "{}", complaint(&output));
    assert!(complaint(&output).contains("upstraem"), "{}", complaint(&output));
    assert_eq!(gate.metric("hearthgate_config_reloads_total{outcome=\"refused\"}"), Some(1.0));
    assert_eq!(gate.running.status().last_reload.unwrap().outcome, Refused);
    assert_eq!(gate.client().await.get("/").await.status, 200);

    std::fs::write(&gate.file, good).unwrap();
    let output = hearthgate(&["reload", "--config", gate.file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_asks_who_is_banned_and_why_somebody_is_not() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let file = gate.file.to_str().unwrap();
    let ask = async |arguments: &[&str]| answer_of(&[arguments, &["--config", file]].concat()).await;
    assert_eq!(ask(&["bans", "list"]).await, "nobody is banned\n");
    let text = ask(&["explain", "127.0.0.1"]).await;
    assert!(text.starts_with("127.0.0.1 is not banned.\n"), "{text}");
    assert!(text.contains("127.0.0.0/8") && text.contains("guard.never_ban"), "{text}");
}
