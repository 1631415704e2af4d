//! Names of hosts, resolved in this program: a static binary cannot load the C library's resolver modules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;

/// `/etc/hosts` and the servers of `/etc/resolv.conf`; without that file nothing is asked anywhere else.
#[derive(Clone, Default)]
pub(crate) struct Names {
    resolver: Arc<OnceCell<TokioResolver>>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Names")
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Names {
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let resolver = self.resolver.get_or_try_init(|| async { system_resolver() }).await?;
        Ok(resolver.lookup_ip(name).await?.iter().collect())
    }
}

fn system_resolver() -> Result<TokioResolver, Failure> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    Ok(builder.build()?)
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = names.addresses(name.as_str()).await?;
            let with_port = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(with_port.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}
