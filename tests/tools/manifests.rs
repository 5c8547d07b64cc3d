//! The manifests, built by kustomize and checked against Kubernetes' schemas.

use std::path::Path;
use std::process::Command;

use super::repository::{files, root, text};
use super::resources::{FOLDER, documents, list, named, resources};

/// The minor versions of Kubernetes 1 to check.
const VERSIONS: std::ops::RangeInclusive<u32> = 28..=35;

pub(crate) fn kustomize_changes_the_number_of_the_example() {
    let folder = tempfile::tempdir().unwrap();
    for file in files(&format!("{FOLDER}/monitoring")) {
        let text = text(&file).replace("\n#   ", "\n");
        std::fs::write(folder.path().join(Path::new(&file).file_name().unwrap()), text).unwrap();
    }
    let built = Command::new("kubectl").arg("kustomize").arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert!(String::from_utf8(built.stdout).unwrap().contains("expr: 48 * 3600\n"));
}

pub(crate) fn kustomize_builds_every_resource() {
    for (folder, kinds) in [
        (FOLDER.to_owned(), vec!["ServiceAccount", "ConfigMap", "Service", "Deployment", "NetworkPolicy"]),
        (format!("{FOLDER}/monitoring"), vec!["PrometheusRule", "ServiceMonitor"]),
    ] {
        let built = Command::new("kubectl").args(["kustomize", &folder]).current_dir(root()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let built = documents(&String::from_utf8(built.stdout).unwrap());
        assert_eq!(built.iter().map(|document| document["kind"].as_str().unwrap()).collect::<Vec<_>>(), kinds);
        for map in built.iter().filter(|document| document["kind"] == "ConfigMap") {
            assert_eq!(map["metadata"]["name"], "kms-rotationd", "no hash: the daemon reads a change");
            assert_eq!(map["data"]["policy.yaml"], text(&format!("{FOLDER}/policy.yaml")).as_str());
        }
    }
}

pub(crate) fn the_component_for_the_evidence_log_adds_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("evidence")).unwrap();
    for file in files(FOLDER).into_iter().filter(|file| !file.contains("/monitoring/") && !file.contains("/replicas/"))
    {
        let text =
            text(&file).replace("\n# components:\n#   - replicas\n#   - evidence", "\ncomponents:\n  - evidence");
        std::fs::write(folder.path().join(file.strip_prefix(FOLDER).unwrap().trim_start_matches('/')), text).unwrap();
    }
    let built = Command::new("kubectl").arg("kustomize").arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let built = documents(&String::from_utf8(built.stdout).unwrap());
    let of = |kind: &str| built.iter().find(|document| document["kind"] == kind).unwrap();
    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let claim = &named(list(pod, "volumes"), "evidence")["persistentVolumeClaim"]["claimName"];
    assert_eq!(*claim, of("PersistentVolumeClaim")["metadata"]["name"]);
    let mount = named(list(&list(pod, "containers")[0], "volumeMounts"), "evidence");
    assert_eq!((&mount["mountPath"], mount["readOnly"].is_null()), (&"/var/lib/kms-rotationd".into(), true));
}

pub(crate) fn the_component_adds_a_replica_and_the_permissions_for_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("replicas")).unwrap();
    for file in files(FOLDER).into_iter().filter(|file| !file.contains("/monitoring/") && !file.contains("/evidence/"))
    {
        let text = text(&file).replace("\n# components:\n#   - replicas\n", "\ncomponents:\n  - replicas\n");
        std::fs::write(folder.path().join(file.strip_prefix(FOLDER).unwrap().trim_start_matches('/')), text).unwrap();
    }
    let built = Command::new("kubectl").arg("kustomize").arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let built = documents(&String::from_utf8(built.stdout).unwrap());
    let of = |kind: &str| built.iter().find(|document| document["kind"] == kind).unwrap();
    let deployment = &of("Deployment")["spec"];
    assert_eq!((&deployment["replicas"], &deployment["strategy"]["type"]), (&2.into(), &"RollingUpdate".into()));
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], true);
    let lease = named(list(&list(pod, "containers")[0], "env"), "KMS_ROTATIOND_LEASE")["value"].clone();
    assert_eq!(
        lease,
        format!("$(POD_NAMESPACE)/{}", list(&list(of("Role"), "rules")[1], "resourceNames")[0].as_str().unwrap())
    );
    assert_eq!(of("RoleBinding")["subjects"][0]["name"], pod["serviceAccountName"]);
}

pub(crate) fn every_version_of_kubernetes_accepts_the_manifests() {
    // The operator's resources are not part of Kubernetes.
    let mut files: Vec<_> =
        resources().into_iter().map(|(file, _)| file).filter(|file| !file.contains("/monitoring/")).collect();
    let count = files.len();
    assert!(count >= 11, "{files:?}");
    files.dedup();
    for minor in VERSIONS {
        let version = format!("1.{minor}.0");
        let ran = Command::new("kubernetes-validate")
            .args(["--strict", "-k", &version])
            .args(&files)
            .current_dir(root())
            .output();
        let ran = ran.unwrap();
        let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(ran.status.success(), "{version}: {said}");
        assert_eq!(said.matches(&format!(" against version 1.{minor}")).count(), count, "{said}");
    }
}
