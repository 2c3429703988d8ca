//! Code on the disk: shared, kept while somebody runs it, gone afterwards.

use crate::bench::{Bench, await_removals, code, create};
use crate::pack::{Item, Pack};
use crate::restored::Meanwhile;
use control::package::Unpacker;
use control::{
    Control, CreateFunction, Deploy, DeployCode, DeployLayer, FunctionCode, Object, ObjectError, Objects,
    PublishLayer, Settings, UpdateFunctionCode,
};
use model::error::ErrorCode;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::sync::Arc;

/// An S3 that fails as an object's key says.
#[derive(Debug)]
struct Failing;

impl Objects for Failing {
    fn fetch(&self, object: Object<'_>, _: u64, _: &mut File) -> Result<(), ObjectError> {
        Err(match object.key {
            "full" => io::Error::from(ErrorKind::StorageFull).into(),
            "silent" => ObjectError::Unreachable("nobody is there".to_owned()),
            code => ObjectError::Refused { code: code.to_owned(), message: "Access Denied".to_owned() },
        })
    }
}

fn in_s3(bucket: &str, key: &str) -> FunctionCode {
    FunctionCode {
        s3_bucket: Some(bucket.to_owned()),
        s3_key: Some(key.to_owned()),
        ..FunctionCode::default()
    }
}

#[test]
fn who_is_at_fault_for_an_object_that_was_not_fetched_is_told() {
    let Bench { control, folder: _folder, .. } = Bench::new();
    let control = control.with_objects(Arc::new(Failing));
    let refused = |control: &Control, key| {
        control.create(CreateFunction { code: Some(in_s3("assets", key)), ..create("cart", "") }).unwrap_err()
    };
    let denied = "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for \
                  assets/AccessDenied. S3 Error Code: AccessDenied. S3 Error Message: Access Denied";
    for (key, code, words) in [
        ("AccessDenied", ErrorCode::AccessDenied, denied),
        (
            "NoSuchKey",
            ErrorCode::InvalidParameterValue,
            "Error occurred while GetObject. S3 Error Code: NoSuchKey.",
        ),
        ("silent", ErrorCode::Service, "Error occurred while GetObject. nobody is there"),
        ("full", ErrorCode::Service, "No space (or inodes) left for the code package"),
    ] {
        let error = refused(&control, key);
        assert_eq!(error.code, code, "{key}: {error}");
        assert!(error.message.starts_with(words), "{key}: {error}");
    }
}

#[test]
fn members_of_code_are_named_by_where_they_are_and_with_all_others() {
    let bench = Bench::new();
    let wrong = in_s3("a.", "");
    let mut request = CreateFunction { code: Some(wrong.clone()), ..create("cart", "") };
    request.settings.role = None;
    let error = bench.control.create(request).unwrap_err();
    assert!(error.message.starts_with("4 validation errors detected"), "{error}");
    assert!(error.message.contains("at 'role'"), "{error}");
    assert!(
        error.message.contains("at 'code.s3Bucket'") && error.message.contains("at 'code.s3Key'"),
        "{error}"
    );
    let layer = PublishLayer { content: Some(wrong.clone()), ..PublishLayer::default() };
    let error = bench.control.publish_layer("all", layer).unwrap_err();
    assert!(
        error.message.contains("at 'content.s3Bucket'") && error.message.contains("at 'content.s3Key'"),
        "{error}"
    );
    bench.control.create(create("cart", "one")).unwrap();
    let error = bench
        .control
        .update_code("cart", UpdateFunctionCode { code: wrong, ..Default::default() })
        .unwrap_err();
    assert!(error.message.contains("at 's3Bucket'") && error.message.contains("at 's3Key'"), "{error}");
}

#[test]
fn old_code_stays_while_somebody_holds_its_function() {
    let bench = Bench::new();
    let old = bench.control.create(create("cart", "one")).unwrap();
    bench
        .control
        .update_code("cart", UpdateFunctionCode { code: code("two"), ..Default::default() })
        .unwrap();
    assert_eq!(std::fs::read_to_string(old.code.join("index.py")).unwrap(), "one");
    assert_eq!(bench.packages(), 2);
    drop(old);
    assert_eq!(bench.packages(), 1);
    bench.control.delete("cart", None).unwrap();
    assert_eq!(bench.packages(), 0);
}

#[test]
fn equal_code_is_stored_once() {
    let bench = Bench::new();
    let a = bench.control.create(create("a", "same")).unwrap();
    let b = bench.control.create(create("b", "same")).unwrap();
    assert_eq!((a.code.clone(), bench.packages()), (b.code.clone(), 1));
    bench.control.delete("a", None).unwrap();
    drop(a);
    assert!(b.code.join("index.py").is_file());
}

#[test]
fn an_archive_is_kept_as_it_came_as_long_as_its_package() {
    let bench = Bench::new();
    let archive = |function: &control::Function| {
        let mut zip = Vec::new();
        let opened = bench.control.archive(&function.location, &function.code, &function.code_sha256);
        let mut file = opened.unwrap().unwrap();
        file.read_to_end(&mut zip).unwrap();
        zip
    };
    let old = bench.control.create(create("cart", "one")).unwrap();
    let new = UpdateFunctionCode { code: code("two"), ..Default::default() };
    let new = bench.control.update_code("cart", new).unwrap();
    let sent = |text| code(text).zip_file.unwrap().0;
    assert_eq!((archive(&old), archive(&new)), (sent("one"), sent("two")));
    let archives = bench.folder.path().join("archives");
    let kept = || std::fs::read_dir(&archives).unwrap().count();
    assert_eq!(kept(), 2);
    // One that was damaged is not handed out for what came.
    for entry in std::fs::read_dir(&archives).unwrap() {
        std::fs::write(entry.unwrap().path(), sent("three")).unwrap();
    }
    assert_ne!(archive(&new), sent("three"));
    assert!(!archive(&new).is_empty());
    // Nor does it stay for ever, nor a package that never had one: both get what comes again.
    bench.control.create(create("again", "two")).unwrap();
    assert_eq!(archive(&new), sent("two"));
    std::fs::remove_dir_all(&archives).unwrap();
    std::fs::create_dir(&archives).unwrap();
    bench.control.create(create("again-and-again", "two")).unwrap();
    assert_eq!(archive(&new), sent("two"));
    bench.control.delete("again", None).unwrap();
    bench.control.delete("again-and-again", None).unwrap();
    drop((old, new));
    assert_eq!(kept(), 1);
    bench.control.delete("cart", None).unwrap();
    assert_eq!(kept(), 0);
}

#[test]
fn a_folder_is_handed_out_as_long_as_it_is_what_was_deployed() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).unwrap();
    std::fs::write(folder.path().join("index.py"), "one").unwrap();
    let request = Deploy {
        name: "cart".to_owned(),
        code: DeployCode::Folder(folder.path().to_owned()),
        settings: Settings {
            runtime: Some("python3.13".to_owned()),
            handler: Some("index.handler".to_owned()),
            ..Settings::default()
        },
        ..Deploy::default()
    };
    let function = bench.control.deploy(request).unwrap();
    let archive =
        || bench.control.archive(&function.location, &function.code, &function.code_sha256).unwrap();
    assert!(archive().is_some());
    std::fs::write(folder.path().join("index.py"), "another").unwrap();
    assert!(archive().is_none(), "what is there now is not what the location names");
}

#[test]
fn a_failed_creation_leaves_no_code() {
    let bench = Bench::new();
    bench.control.create(create("cart", "one")).unwrap();
    assert!(bench.control.create(create("cart", "two")).is_err());
    assert_eq!(bench.packages(), 1);
}

#[test]
fn what_a_crash_left_is_removed_at_the_next_start() {
    let bench = Bench::new();
    bench.control.create(create("cart", "one")).unwrap();
    let data = bench.folder.path().to_owned();
    std::fs::create_dir_all(data.join("staging/3/half")).unwrap();
    std::fs::create_dir_all(data.join("code/feed")).unwrap();
    std::fs::write(data.join("archives/feed"), "zip").unwrap();
    let bench = bench.again();
    assert_eq!(std::fs::read_dir(data.join("archives")).unwrap().count(), 1);
    assert_eq!(bench.packages(), 1);
    await_removals(&data);
    assert!(bench.control.function("cart").unwrap().code.join("index.py").is_file());
}

#[test]
fn templates_bring_archives_inline_code_and_layers() {
    let bench = Bench::new();
    let files = tempfile::tempdir().unwrap();
    let archive = files.path().join("code.zip");
    std::fs::write(&archive, Pack::new(vec![Item::deflated("app.py", b"archive")]).bytes()).unwrap();
    let request = |name: &str, code| Deploy {
        name: name.to_owned(),
        code,
        settings: Settings {
            runtime: Some("python3.13".to_owned()),
            handler: Some("index.handler".to_owned()),
            ..Settings::default()
        },
        ..Deploy::default()
    };
    let from_file = bench.control.deploy(request("zip", DeployCode::ZipFile(archive.clone()))).unwrap();
    assert_eq!(std::fs::read_to_string(from_file.code.join("app.py")).unwrap(), "archive");
    let inline = bench.control.deploy(request("inline", DeployCode::Inline("x = 1".to_owned()))).unwrap();
    assert_eq!(std::fs::read_to_string(inline.code.join("index.py")).unwrap(), "x = 1");
    let layer =
        DeployLayer { name: "l".to_owned(), code: DeployCode::ZipFile(archive), ..DeployLayer::default() };
    let layered = Deploy {
        layers: vec![bench.control.deploy_layer(&layer).unwrap()],
        ..request("layered", DeployCode::Inline("x = 2".to_owned()))
    };
    let layered = bench.control.deploy(layered).unwrap();
    let path = layered.layers[0].path.clone();
    drop((from_file, inline, layered));
    let bench = bench.again();
    let layered = bench.control.function("layered").unwrap();
    assert_eq!(layered.layers[0].path, path);
    assert!(path.join("app.py").is_file());
    assert_eq!(bench.packages(), 3);

    let missing = request("none", DeployCode::Folder(files.path().join("nowhere")));
    let error = bench.control.deploy(missing).unwrap_err();
    assert!(error.message.contains("nowhere"), "{error}");
    let cobol = Deploy {
        settings: Settings {
            runtime: Some("provided.al2023".to_owned()),
            handler: Some("x".to_owned()),
            ..Settings::default()
        },
        ..request("native", DeployCode::Inline(String::new()))
    };
    assert!(bench.control.deploy(cobol).unwrap_err().message.contains("ZipFile can only be used"));
}

#[test]
fn layers_that_come_while_code_is_unpacked_are_measured_with_it() {
    let Bench { control, folder, .. } = Bench::new();
    let meanwhile = Meanwhile::giving(|| Settings {
        layers: Some(vec!["arn:aws:lambda:us-east-1:000000000000:layer:large:1".to_owned()]),
        ..Settings::default()
    });
    let control = Arc::new(control.with_unpacker(Arc::clone(&meanwhile) as Arc<dyn Unpacker>));
    let files = folder.path().join("large");
    std::fs::create_dir(&files).unwrap();
    File::create(files.join("file")).unwrap().set_len(262_144_000 - 3).unwrap();
    let layer =
        DeployLayer { name: "large".to_owned(), code: DeployCode::Folder(files), ..DeployLayer::default() };
    control.deploy_layer(&layer).unwrap();
    control.create(create("cart", "1")).unwrap();
    meanwhile.control.set(Arc::downgrade(&control)).unwrap();
    let larger = UpdateFunctionCode { code: code("four"), ..UpdateFunctionCode::default() };
    let refused = control.update_code("cart", larger).unwrap_err();
    assert!(refused.message.ends_with("The actual size is 262144001 bytes."), "{refused}");
    assert_eq!(control.function("cart").unwrap().layers.len(), 1, "what came first stays");
}
