//! The table of Lambda's operations, and the way from a request to its row.
//!
//! Source: the Lambda service model (botocore `lambda/2015-03-31`, read 2026-07), published.

use http::Method;

/// Folders of the longest path.
const PARTS_MAX: usize = 8;

/// One operation of the API.
#[derive(Debug)]
pub struct Operation {
    /// As SDKs call it.
    pub name: &'static str,
    method: Method,
    /// Parts in braces stand for anything.
    path: &'static str,
    /// Must be in the query, too.
    query: &'static str,
}

/// What stood for each part in braces, percent-decoded, in order.
pub type Labels = Vec<String>;

macro_rules! operations {
    ($($name:ident $method:ident $path:literal $(? $query:literal)?;)*) => {
        &[$(Operation { name: stringify!($name), method: Method::$method, path: $path, query: concat!($($query)?) },)*]
    };
}

/// Rows with a query stand before those without.
const OPERATIONS: &[Operation] = operations! {
    AddLayerVersionPermission POST "2018-10-31/layers/{}/versions/{}/policy";
    AddPermission POST "2015-03-31/functions/{}/policy";
    CheckpointDurableExecution POST "2025-12-01/durable-executions/{}/checkpoint";
    CreateAlias POST "2015-03-31/functions/{}/aliases";
    CreateCapacityProvider POST "2025-11-30/capacity-providers";
    CreateCodeSigningConfig POST "2020-04-22/code-signing-configs";
    CreateEventSourceMapping POST "2015-03-31/event-source-mappings";
    CreateFunction POST "2015-03-31/functions";
    CreateFunctionUrlConfig POST "2021-10-31/functions/{}/url";
    DeleteAlias DELETE "2015-03-31/functions/{}/aliases/{}";
    DeleteCapacityProvider DELETE "2025-11-30/capacity-providers/{}";
    DeleteCodeSigningConfig DELETE "2020-04-22/code-signing-configs/{}";
    DeleteDurableExecution DELETE "2025-12-01/durable-executions/{}";
    DeleteEventSourceMapping DELETE "2015-03-31/event-source-mappings/{}";
    DeleteFunction DELETE "2015-03-31/functions/{}";
    DeleteFunctionCodeSigningConfig DELETE "2020-06-30/functions/{}/code-signing-config";
    DeleteFunctionConcurrency DELETE "2017-10-31/functions/{}/concurrency";
    DeleteFunctionEventInvokeConfig DELETE "2019-09-25/functions/{}/event-invoke-config";
    DeleteFunctionUrlConfig DELETE "2021-10-31/functions/{}/url";
    DeleteLayerVersion DELETE "2018-10-31/layers/{}/versions/{}";
    DeleteProvisionedConcurrencyConfig DELETE "2019-09-30/functions/{}/provisioned-concurrency";
    DeleteResourcePolicy DELETE "2026-07-09/resource-policy/{}";
    GetAccountSettings GET "2016-08-19/account-settings";
    GetAlias GET "2015-03-31/functions/{}/aliases/{}";
    GetCapacityProvider GET "2025-11-30/capacity-providers/{}";
    GetCodeSigningConfig GET "2020-04-22/code-signing-configs/{}";
    GetDurableExecution GET "2025-12-01/durable-executions/{}";
    GetDurableExecutionHistory GET "2025-12-01/durable-executions/{}/history";
    GetDurableExecutionState GET "2025-12-01/durable-executions/{}/state";
    GetEventSourceMapping GET "2015-03-31/event-source-mappings/{}";
    GetFunction GET "2015-03-31/functions/{}";
    GetFunctionCodeSigningConfig GET "2020-06-30/functions/{}/code-signing-config";
    GetFunctionConcurrency GET "2019-09-30/functions/{}/concurrency";
    GetFunctionConfiguration GET "2015-03-31/functions/{}/configuration";
    GetFunctionEventInvokeConfig GET "2019-09-25/functions/{}/event-invoke-config";
    GetFunctionRecursionConfig GET "2024-08-31/functions/{}/recursion-config";
    GetFunctionScalingConfig GET "2025-11-30/functions/{}/function-scaling-config";
    GetFunctionUrlConfig GET "2021-10-31/functions/{}/url";
    GetLayerVersion GET "2018-10-31/layers/{}/versions/{}";
    GetLayerVersionByArn GET "2018-10-31/layers" ? "find=LayerVersion";
    GetLayerVersionPolicy GET "2018-10-31/layers/{}/versions/{}/policy";
    GetPolicy GET "2015-03-31/functions/{}/policy";
    ListProvisionedConcurrencyConfigs GET "2019-09-30/functions/{}/provisioned-concurrency" ? "List=ALL";
    GetProvisionedConcurrencyConfig GET "2019-09-30/functions/{}/provisioned-concurrency";
    GetResourcePolicy GET "2026-07-09/resource-policy/{}";
    GetRuntimeManagementConfig GET "2021-07-20/functions/{}/runtime-management-config";
    Invoke POST "2015-03-31/functions/{}/invocations";
    InvokeAsync POST "2014-11-13/functions/{}/invoke-async";
    InvokeWithResponseStream POST "2021-11-15/functions/{}/response-streaming-invocations";
    ListAliases GET "2015-03-31/functions/{}/aliases";
    ListCapacityProviders GET "2025-11-30/capacity-providers";
    ListCodeSigningConfigs GET "2020-04-22/code-signing-configs";
    ListDurableExecutionsByFunction GET "2025-12-01/functions/{}/durable-executions";
    ListEventSourceMappings GET "2015-03-31/event-source-mappings";
    ListFunctionEventInvokeConfigs GET "2019-09-25/functions/{}/event-invoke-config/list";
    ListFunctionUrlConfigs GET "2021-10-31/functions/{}/urls";
    ListFunctionVersionsByCapacityProvider GET "2025-11-30/capacity-providers/{}/function-versions";
    ListFunctions GET "2015-03-31/functions";
    ListFunctionsByCodeSigningConfig GET "2020-04-22/code-signing-configs/{}/functions";
    ListLayerVersions GET "2018-10-31/layers/{}/versions";
    ListLayers GET "2018-10-31/layers";
    ListTags GET "2017-03-31/tags/{}";
    ListVersionsByFunction GET "2015-03-31/functions/{}/versions";
    PauseDurableExecution POST "2025-12-01/durable-executions/{}/pause";
    PublishLayerVersion POST "2018-10-31/layers/{}/versions";
    PublishVersion POST "2015-03-31/functions/{}/versions";
    PutFunctionCodeSigningConfig PUT "2020-06-30/functions/{}/code-signing-config";
    PutFunctionConcurrency PUT "2017-10-31/functions/{}/concurrency";
    PutFunctionEventInvokeConfig PUT "2019-09-25/functions/{}/event-invoke-config";
    PutFunctionRecursionConfig PUT "2024-08-31/functions/{}/recursion-config";
    PutFunctionScalingConfig PUT "2025-11-30/functions/{}/function-scaling-config";
    PutProvisionedConcurrencyConfig PUT "2019-09-30/functions/{}/provisioned-concurrency";
    PutResourcePolicy PUT "2026-07-09/resource-policy/{}";
    PutRuntimeManagementConfig PUT "2021-07-20/functions/{}/runtime-management-config";
    RemoveLayerVersionPermission DELETE "2018-10-31/layers/{}/versions/{}/policy/{}";
    RemovePermission DELETE "2015-03-31/functions/{}/policy/{}";
    ResumeDurableExecution POST "2025-12-01/durable-executions/{}/resume";
    SendDurableExecutionCallbackFailure POST "2025-12-01/durable-execution-callbacks/{}/fail";
    SendDurableExecutionCallbackHeartbeat POST "2025-12-01/durable-execution-callbacks/{}/heartbeat";
    SendDurableExecutionCallbackSuccess POST "2025-12-01/durable-execution-callbacks/{}/succeed";
    StopDurableExecution POST "2025-12-01/durable-executions/{}/stop";
    TagResource POST "2017-03-31/tags/{}";
    UntagResource DELETE "2017-03-31/tags/{}";
    UpdateAlias PUT "2015-03-31/functions/{}/aliases/{}";
    UpdateCapacityProvider PUT "2025-11-30/capacity-providers/{}";
    UpdateCodeSigningConfig PUT "2020-04-22/code-signing-configs/{}";
    UpdateEventSourceMapping PUT "2015-03-31/event-source-mappings/{}";
    UpdateFunctionCode PUT "2015-03-31/functions/{}/code";
    UpdateFunctionConfiguration PUT "2015-03-31/functions/{}/configuration";
    UpdateFunctionEventInvokeConfig POST "2019-09-25/functions/{}/event-invoke-config";
    UpdateFunctionUrlConfig PUT "2021-10-31/functions/{}/url";
};

/// The operation of a request, with what its path says. Cost: linear in the table.
pub fn find(method: &Method, path: &str, query: &str) -> Option<(&'static Operation, Labels)> {
    let path = path.strip_prefix('/')?;
    // Older clients end some paths with `/`.
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').take(PARTS_MAX + 1).collect();
    OPERATIONS.iter().filter(|operation| operation.method == method).find_map(|operation| {
        let given = operation.query.is_empty() || query.split('&').any(|pair| pair == operation.query);
        if !given {
            return None;
        }
        Some((operation, labels(operation.path, &parts)?))
    })
}

fn labels(path: &str, parts: &[&str]) -> Option<Labels> {
    let mut labels = Labels::new();
    let mut parts = parts.iter();
    for wanted in path.split('/') {
        let part = parts.next()?;
        if wanted == "{}" {
            labels.push(super::input::decode(part, false).filter(|label| !label.is_empty())?);
        } else if wanted != *part {
            return None;
        }
    }
    parts.next().is_none().then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: &Method, path: &str, query: &str) -> Option<(&'static str, Labels)> {
        find(method, path, query).map(|(operation, labels)| (operation.name, labels))
    }

    #[test]
    fn every_row_is_found_by_its_own_path() {
        for operation in OPERATIONS {
            let path = format!("/{}", operation.path.replace("{}", "x"));
            let (found, _) = find(&operation.method, &path, operation.query).unwrap();
            assert_eq!(found.name, operation.name, "{path}");
        }
    }

    #[test]
    fn labels_are_decoded() {
        let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Acart";
        let found = name(&Method::GET, &format!("/2015-03-31/functions/{arn}"), "").unwrap();
        let wanted = "arn:aws:lambda:us-east-1:000000000000:function:cart";
        assert_eq!(found, ("GetFunction", vec![wanted.to_owned()]));
    }

    #[test]
    fn a_query_can_choose_the_operation() {
        let path = "/2019-09-30/functions/cart/provisioned-concurrency";
        assert_eq!(
            name(&Method::GET, path, "Qualifier=1&List=ALL").unwrap().0,
            "ListProvisionedConcurrencyConfigs"
        );
        assert_eq!(name(&Method::GET, path, "Qualifier=1").unwrap().0, "GetProvisionedConcurrencyConfig");
    }

    #[test]
    fn other_paths_belong_to_nobody_here() {
        for path in [
            "/",
            "",
            "/health",
            "/2015-03-31",
            "/2015-03-31/functions//code",
            "/2015-03-31/functions/%ff",
            "/2015-03-31/functions/%4",
        ] {
            assert_eq!(name(&Method::GET, path, ""), None, "{path}");
        }
        assert_eq!(name(&Method::PATCH, "/2015-03-31/functions/cart", ""), None);
        assert_eq!(name(&Method::GET, "/2015-03-31/functions/", "").unwrap().0, "ListFunctions");
    }
}
