//! Clients of stores, as a place says.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::Certificate;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::place::{Bucket, Place};
use crate::remote::store_error;
use crate::{ShipError, io_error};

/// How stores are spoken to.
pub(crate) fn options(place: &Place) -> Result<ClientOptions, ShipError> {
    let is_plain =
        place.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut options = ClientOptions::new()
        .with_allow_http(is_plain)
        .with_connect_timeout(Duration::from_secs(10))
        .with_read_timeout(Duration::from_mins(1))
        .with_timeout(REQUEST_TIME_MAX);
    if let Some(ca) = &place.ca {
        let pem = fs::read(ca).map_err(io_error(ca))?;
        let all = Certificate::from_pem_bundle(&pem)
            .map_err(|error| ShipError::Place(format!("{}: {error}", ca.display())))?;
        for one in all {
            options = options.with_root_certificate(one);
        }
    }
    Ok(options)
}

/// The largest request: 160 MiB where a file goes whole, at 64 KiB/s; reads are ended after a minute without a byte.
const REQUEST_TIME_MAX: Duration = Duration::from_mins(45);

/// A request is made again six times at most; a shipment that fails is tried again by whoever asked for it.
pub(crate) fn retry(place: &Place) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: place.retry_pause,
        max_backoff: Duration::from_secs(15),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 6, retry_timeout: Duration::from_mins(2) }
}

/// Google's.
pub(crate) fn gcs(place: &Place, bucket: &Bucket) -> Result<Arc<dyn ObjectStore>, ShipError> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(options(place)?)
        .with_retry(retry(place))
        .with_bucket_name(&bucket.name);
    for (name, value) in place.credentials.pairs() {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    Ok(Arc::new(builder.build().map_err(store_error("the bucket"))?))
}

/// Azure's.
pub(crate) fn azure(place: &Place, bucket: &Bucket) -> Result<Arc<dyn ObjectStore>, ShipError> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(options(place)?)
        .with_retry(retry(place))
        .with_container_name(&bucket.name);
    for (name, value) in place.credentials.pairs() {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    Ok(Arc::new(builder.build().map_err(store_error("the container"))?))
}
