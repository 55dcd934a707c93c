//! `ApiVersions` v0-4. v3: the client's software name, features; v4: features from level 0 on.

use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{APIS, Api, Body, Failure, Reply, Request, encode};

pub(crate) const API: Api = Api {
    key: ApiKey::ApiVersions,
    accepted: (0, 4),
    advertised: (0, 4),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

/// Name, least and highest supported level, finalized level.
const FEATURES: &[(&str, i16, i16, i16)] =
    &[("metadata.version", 7, 29, 29), ("transaction.version", 0, 2, 2)];

fn handle(_ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let asked: ApiVersionsRequest = request.decode()?;
    let valid = request.version < 3
        || (is_software_name(&asked.client_software_name)
            && is_software_name(&asked.client_software_version));
    if !valid {
        let refusal = ApiVersionsResponse::default().with_error_code(ErrorCode::INVALID_REQUEST.0);
        return request.reply(&refusal);
    }
    request.reply(&response(request.version))
}

/// The answer to a version that is not served: in version 0, with the range to choose from.
pub(crate) fn unsupported() -> Result<Body, Failure> {
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
        .with_api_keys(vec![entry(&API)]);
    encode(&response, 0)
}

fn response(version: i16) -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse::default();
    response.api_keys = APIS.iter().map(entry).collect();
    response.api_keys.sort_by_key(|api| api.api_key);
    if version < 3 {
        return response;
    }
    for (name, least, highest, finalized) in FEATURES {
        // Java clients up to 3.8 cannot read a range that begins at 0; version 4 tells who can.
        if version >= 4 || *least > 0 {
            response.supported_features.push(
                SupportedFeatureKey::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_min_version(*least)
                    .with_max_version(*highest),
            );
        }
        response.finalized_features.push(
            FinalizedFeatureKey::default()
                .with_name(StrBytes::from_static_str(name))
                .with_min_version_level(*finalized)
                .with_max_version_level(*finalized),
        );
    }
    response.finalized_features_epoch = 0;
    response
}

fn entry(api: &Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.number())
        .with_min_version(api.advertised.0)
        .with_max_version(api.advertised.1)
}

/// Letters, digits, dots and hyphens, with a letter or digit at both ends.
fn is_software_name(name: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = [name.as_bytes().first(), name.as_bytes().last()];
    ends.into_iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && name.as_bytes().iter().all(inner)
}
