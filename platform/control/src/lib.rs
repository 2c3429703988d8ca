//! Functions, their settings and code packages, and the durable store.
//!
//! [`Control`] is the room's one value. It checks what callers ask for as AWS does ([`validate`]), puts code where
//! sandboxes can bind it ([`package`]), makes every change durable before it is acknowledged ([`store`]), and tells one
//! observer. Reads are of a snapshot and never wait for a write to reach the disk. It knows nothing of HTTP, of
//! sandboxes or of invocations.

pub mod access;
mod clock;
mod control;
pub mod function;
pub mod image;
pub mod layer;
mod object;
pub mod package;
pub mod published;
pub mod request;
pub mod store;
pub mod validate;

pub use control::{
    AddPermission, AliasSettings, AllowedPublishers, CODE_STORAGE_MAX, Change, CodeSigningConfig,
    CodeSigningPolicies, CodeSigningSettings, Control, Deployment, FUNCTIONS_MAX, LayerPermission, OpenError,
    Options, POLICY_MAX, PublishLayer, PublishVersion, Restored, RoutingSettings, RuntimeManagementSettings,
    SigningConfigs, Stored, check_qualifier, not_ready, url_id,
};
pub use function::{
    AuthType, Cors, EventInvokeConfig, Function, FunctionUrl, InvokeMode, LastUpdateStatus, Layer, LogFormat,
    Logging, PackageType, PolicyStatement, SnapStart, State, StateReason, TracingMode, VpcConfig,
};
pub use image::{FoundImage, Image, ImageConfig, ImageFault, ImageRoot, ImageSettings, Images, Pull, Sight};
pub use model::error::{ApiError, ErrorCode};
pub use object::{Object, ObjectError, Objects};
pub use package::{CodeLease, Location, list as list_folder};
pub use published::{Alias, FromTemplate, Provisioned, Published, RecursiveLoop, Route, RuntimeManagement};
pub use request::{
    Around, Blob, CreateFunction, DeadLetterSettings, Deploy, DeployAlias, DeployCode, DeployLayer,
    DeployVersion, Environment, EphemeralStorage, FunctionCode, LoggingSettings, Settings, SnapStartSettings,
    TracingSettings, UpdateFunctionCode, UpdateFunctionConfiguration, UrlSettings, VpcSettings,
};
