use ureq::tls::{RootCerts, TlsConfig};

fn main() {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let url = std::env::args().nth(1).expect("a URL");
    print!("{}", agent.get(&url).call().unwrap().body_mut().read_to_string().unwrap());
}
