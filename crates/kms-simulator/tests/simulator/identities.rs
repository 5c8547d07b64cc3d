//! Tokens for the token of an identity provider, and the lookup of a project by its name.

use kms_simulator::{Operation, ProjectSetup, Simulator};
use serde_json::{Value, json};

use crate::signing::{Keys, START, Signed};
use crate::wire::{Answer, JSON, call, get};
use crate::{OTHER_PROJECT, PROJECT, TOKEN, clock, kms_with, setup, start};

async fn exchange(simulator: &Simulator, headers: &[(&str, &str)], jwt: &Value) -> Answer {
    let body = json!({"auth": {"id_token": {"id": jwt}}}).to_string();
    call(simulator, "/v3.0/OS-AUTH/id-token/tokens", &[&[JSON], headers].concat(), &body).await
}

#[tokio::test(start_paused = true)]
async fn an_identity_providers_token_gives_an_unscoped_token_and_with_it_temporary_keys() {
    let simulator = start(setup().identity_provider("cluster", "head.claims.signature").clock(clock().1)).await;
    let handle = simulator.handle();
    let cluster = [("X-Idp-Id", "cluster")];
    let answer = exchange(&simulator, &cluster, &json!("head.claims.signature")).await;
    assert_eq!(answer.status, 201);
    let about = &answer.json()["token"];
    assert!(about.get("project").is_none() && about["expires_at"] == "2023-11-15T22:13:20.000000Z", "{about}");
    let token = answer.header("x-subject-token").unwrap();
    assert_eq!(kms_with(&simulator, token, "list-keys", &json!({})).await.error(), (403, "KMS.0321".to_owned()));
    let body =
        json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token, "duration_seconds": 21_600}}}});
    let keys = call(&simulator, "/v3.0/OS-CREDENTIAL/securitytokens", &[JSON], &body.to_string()).await;
    let list = Signed::kms(&simulator, "list-keys", &json!({}), START).by(&Keys::temporary(&keys));
    assert_eq!(list.send(&simulator).await.status, 200);

    let error = |status, code: &str| (status, code.to_owned());
    assert_eq!(exchange(&simulator, &cluster, &json!("stale")).await.error(), error(401, "401"));
    assert_eq!(exchange(&simulator, &[("X-Idp-Id", "other")], &json!("stale")).await.error(), error(404, "IAM.0004"));
    assert_eq!(exchange(&simulator, &[], &json!("stale")).await.error(), error(400, "400"));
    assert_eq!(exchange(&simulator, &cluster, &Value::Null).await.error(), error(400, "400"));
    handle.set_id_token("cluster", "renewed");
    assert_eq!(exchange(&simulator, &cluster, &json!("head.claims.signature")).await.status, 401);
    assert_eq!(exchange(&simulator, &cluster, &json!("renewed")).await.status, 201);
    assert_eq!((handle.requests(Operation::IdToken), handle.authentication_failures()), (7, 2));
    handle.behave(|cloud| cloud.forbidden = Operation::IdToken.into());
    assert_eq!(exchange(&simulator, &cluster, &json!("renewed")).await.error(), error(403, "IAM.0003"));
}

#[tokio::test(start_paused = true)]
async fn a_lookup_by_name_returns_every_project_of_that_name() {
    const DELEGATED: &str = "aaaabbbbccccddddaaaabbbbccccdddd";
    let twin = ProjectSetup::new(OTHER_PROJECT, "eu-de").domain("ANOTHER");
    let delegated = ProjectSetup::new(DELEGATED, "eu-de").domain("CUSTOMER");
    let setup = setup().project(twin).project(delegated).agency("CUSTOMER", "c", "rotation", [DELEGATED]);
    let simulator = start(setup.access_key("AK", "secret").clock(clock().1)).await;
    let list = |query: &'static str| {
        let mut list = Signed::new(&simulator, "GET", "/v3/projects", "", START);
        (list.query, list.canonical_query) = (query, query);
        let (list, simulator) = (list.by(&Keys::new("AK", "secret")), &simulator);
        async move { list.send(simulator).await.json()["projects"].clone() }
    };
    let ids = |projects: &Value| -> Vec<String> {
        projects.as_array().unwrap().iter().map(|project| project["id"].as_str().unwrap().to_owned()).collect()
    };
    let both = list("name=eu-de").await;
    assert_eq!(ids(&both), [PROJECT, OTHER_PROJECT], "what is delegated is not the caller's");
    assert_eq!(both[0]["name"], "eu-de");
    assert_ne!(both[0]["domain_id"], both[1]["domain_id"]);
    assert_eq!(ids(&list("").await).len(), 2);
    assert_eq!(list("name=eu").await, json!([]));

    let token = ("X-Auth-Token", TOKEN);
    let answer = get(&simulator, "/v3/projects?name=eu%2Dde", &[token]).await;
    assert_eq!((answer.status, ids(&answer.json()["projects"])), (200, vec![PROJECT.to_owned()]), "the token's own");
    let domain_id = both[1]["domain_id"].as_str().unwrap();
    let answer = get(&simulator, &format!("/v3/projects?name=eu-de&domain_id={domain_id}"), &[token]).await;
    assert_eq!(answer.json()["projects"], json!([]));
    assert_eq!(get(&simulator, "/v3/projects", &[]).await.error(), (401, "IAM.0001".to_owned()));
    assert_eq!(simulator.handle().requests(Operation::ListProjects), 6);
    simulator.handle().behave(|cloud| cloud.forbidden = Operation::ListProjects.into());
    assert_eq!(get(&simulator, "/v3/projects", &[token]).await.error(), (403, "IAM.0003".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_user_and_an_account_can_be_given_by_id() {
    let simulator = start(setup()).await;
    let handle = simulator.handle();
    let (user_id, domain_id) = (handle.user_id("rotator", "ACCOUNT").unwrap(), handle.domain_id("ACCOUNT"));
    assert_eq!(handle.user_id("rotator", "ANOTHER"), None);
    for (user, status) in [
        (json!({"id": user_id}), 201),
        (json!({"name": "rotator", "domain": {"id": domain_id}}), 201),
        (json!({"name": "rotator", "domain": {"id": PROJECT}}), 401),
        (json!({"id": PROJECT}), 401),
        (json!({"name": "rotator"}), 400),
        (json!({"domain": {"id": domain_id}}), 400),
    ] {
        let mut user = user;
        user["password"] = json!("secret");
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": {"project": {"name": "eu-de"}}}}).to_string();
        let answer = call(&simulator, "/v3/auth/tokens", &[JSON], &body).await;
        assert_eq!(answer.status, status, "{body}");
        let opened = (status == 201).then(|| answer.json()["token"]["project"]["id"].clone());
        assert_eq!(opened, (status == 201).then(|| json!(PROJECT)), "{body}");
    }
}
