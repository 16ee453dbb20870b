//! A service as a process of its own, so that tests can kill and stop it: answers each request with its
//! name. `serve-page ADDRESS NAME PID_FILE`; says `ready` when it listens and the pid file is there.

use nearmost_tests::service::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, pid_file] = &args[..] else {
        panic!("serve-page ADDRESS NAME PID_FILE, not {args:?}")
    };
    // It lives as long as the process.
    let _service = Service::start(address, name.clone().leak()).await;
    std::fs::write(pid_file, std::process::id().to_string()).expect("write the pid file");
    println!("ready");
    std::future::pending::<()>().await;
}
