//! Whether roles of the template let Lambda make network interfaces for functions in a VPC.
//!
//! Source: Lambda Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC", required IAM
//! permissions. A role from outside the template is trusted, and so is one that spells out no policy at all.

use super::{Builder, Item};
use crate::problem::Problem;
use model::stack::Role;
use model::wildcard::is_like;
use serde_json::Value;

/// What Lambda does with the role when a function is put into a VPC.
const NEEDED: [&str; 3] =
    ["ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface"];
/// AWS's own policies that say nothing of network interfaces; of others that are not known, the best is thought.
const WITHOUT: [&str; 12] = [
    "AWSLambdaBasicExecutionRole",
    "AWSLambdaDynamoDBExecutionRole",
    "AWSLambdaKinesisExecutionRole",
    "AWSLambdaSQSQueueExecutionRole",
    "AWSLambdaMSKExecutionRole",
    "AWSXRayDaemonWriteAccess",
    "AWSXrayWriteOnlyAccess",
    "AmazonS3ReadOnlyAccess",
    "AmazonSSMReadOnlyAccess",
    "AmazonDynamoDBFullAccess",
    "SecretsManagerReadWrite",
    "CloudWatchLogsFullAccess",
];

impl Builder<'_, '_> {
    /// Functions in a VPC have roles that allow it, as far as the template spells these out.
    pub(super) fn check_vpc_roles(&mut self, items: &[Item<'_>]) {
        for at in 0..self.stack.functions.len() {
            let function = &self.stack.functions[at];
            let (Some(_), Some(role)) = (&function.vpc, &function.role) else { continue };
            let Some(role) = self.stack.roles.iter().find(|found| found.arn == *role) else { continue };
            let Some(policies) = self.policies_of(role, items) else { continue };
            let missing = NEEDED.iter().find(|action| !allows(&policies, action));
            if let Some(action) = missing {
                let call = action.trim_start_matches("ec2:");
                let message =
                    format!("The provided execution role does not have permissions to call {call} on EC2");
                let problem = Problem::at(super::span(function.place), message);
                self.problems.push(problem.help(format!(
                    "give {} the managed policy service-role/AWSLambdaVPCAccessExecutionRole",
                    role.id
                )));
            }
        }
    }

    /// The documents of a role's policies; `None` where one is not known, or where there are none.
    fn policies_of(&self, role: &Role, items: &[Item<'_>]) -> Option<Vec<Value>> {
        let mut documents = Vec::new();
        let mut known_without = false;
        for text in role.policies.values() {
            documents.push(serde_json::from_str(text).ok()?);
        }
        for arn in &role.managed_policies {
            let name = arn.rsplit('/').next().unwrap_or_default();
            if let Some(item) =
                items.iter().find(|item| item.kind == "AWS::IAM::ManagedPolicy" && item.reference == arn)
            {
                documents.push(document(item)?);
            } else if arn.contains(":iam::aws:policy/") && WITHOUT.contains(&name) {
                known_without = true;
            } else {
                return None;
            }
        }
        let attached = items.iter().filter(|item| {
            let kinds = ["AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::ManagedPolicy"];
            let named = |key: &str| {
                item.fields.get(key).is_some_and(|node| {
                    let own = |node: &crate::yaml::Node| node.as_str() == Some(&*role.name);
                    own(node) || node.as_sequence().is_some_and(|items| items.iter().any(own))
                })
            };
            kinds.contains(&item.kind) && (named("Roles") || named("RoleName"))
        });
        for item in attached {
            documents.push(document(item)?);
        }
        (known_without || !documents.is_empty()).then_some(documents)
    }
}

fn document(item: &Item<'_>) -> Option<Value> {
    item.fields.get("PolicyDocument").map(crate::resolve::json)
}

/// Whether the documents allow an action on something, and deny it on nothing.
fn allows(documents: &[Value], action: &str) -> bool {
    let statements = documents.iter().flat_map(|document| many(&document["Statement"]));
    let (mut allowed, mut denied) = (false, false);
    for statement in statements {
        let speaks = match (&statement["Action"], &statement["NotAction"]) {
            (Value::Null, Value::Null) => false,
            (Value::Null, not) => !many(not).any(|pattern| fits(pattern, action)),
            (actions, _) => many(actions).any(|pattern| fits(pattern, action)),
        };
        match statement["Effect"].as_str() {
            Some("Allow") if speaks => allowed = true,
            // A denial under a condition may not apply.
            Some("Deny") if speaks && statement["Condition"].is_null() => denied = true,
            _ => {}
        }
    }
    allowed && !denied
}

/// The items of a list, or the one thing that stands in its place.
fn many(value: &Value) -> impl Iterator<Item = &Value> {
    let list = value.as_array().map(Vec::as_slice);
    list.unwrap_or_else(|| std::slice::from_ref(value)).iter().filter(|value| !value.is_null())
}

/// Whether a pattern with `*` and `?` means an action; case does not matter (IAM User Guide, "Action").
fn fits(pattern: &Value, action: &str) -> bool {
    let Some(pattern) = pattern.as_str() else { return false };
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    is_like(pattern.as_bytes(), action.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn actions_fit_as_iam_reads_them() {
        for (pattern, expected) in [
            ("*", true),
            ("ec2:*", true),
            ("EC2:createnetworkinterface", true),
            ("ec2:*NetworkInterface", true),
            ("ec2:Create*", true),
            ("ec2:CreateNetworkInterfac?", true),
            ("ec2:CreateNetworkInterface?", false),
            ("ec2:Describe*", false),
            ("s3:*", false),
            ("", false),
        ] {
            assert_eq!(fits(&json!(pattern), NEEDED[0]), expected, "{pattern}");
        }
    }

    #[test]
    fn a_denial_outweighs_and_not_action_counts() {
        let allow = json!({"Statement": {"Effect": "Allow", "Action": ["ec2:*"], "Resource": "*"}});
        let deny = json!({"Statement": [{"Effect": "Deny", "Action": "ec2:Create*", "Resource": "*"}]});
        let not = json!({"Statement": [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}]});
        assert!(allows(std::slice::from_ref(&allow), NEEDED[0]));
        assert!(allows(&[not], NEEDED[0]));
        assert!(!allows(&[allow.clone(), deny.clone()], NEEDED[0]) && allows(&[allow, deny], NEEDED[1]));
        assert!(!allows(&[json!({"Statement": "x"}), json!(3)], NEEDED[0]));
    }
}
