//! Agencies: tokens and temporary keys for the projects of another account.

use kms_simulator::{Operation, ProjectSetup, Setup, Simulator};
use serde_json::{Value, json};

use crate::signing::{ACCESS, Keys, SECRET, START, Signed};
use crate::wire::{Answer, JSON, call};
use crate::{KEY, OTHER_PROJECT, PROJECT, TOKEN, clock, kms_with, log_in, setup, start};

const DOMAIN_ID: &str = "b168fe00ff56492495a7d22974df2d0b";

/// `PROJECT` is the user's own, `OTHER_PROJECT` is delegated by another account.
fn delegated() -> Setup {
    let other = ProjectSetup::new(OTHER_PROJECT, "eu-de").domain("CUSTOMER");
    let setup = setup().project(other).login("owner", "CUSTOMER", "secret").access_key(ACCESS, SECRET);
    setup.agency("CUSTOMER", DOMAIN_ID, "rotation", [OTHER_PROJECT]).clock(clock().1)
}

fn tokens_body(assume: &Value, scope: &Value) -> String {
    json!({"auth": {"identity": {"methods": ["assume_role"], "assume_role": assume}, "scope": scope}}).to_string()
}

fn keys_body(method: &str, identity: &Value) -> String {
    json!({"auth": {"identity": {"methods": [method], method: identity}}}).to_string()
}

/// A token of the user's account; assuming an agency needs one.
async fn account_token(simulator: &Simulator) -> String {
    let answer = log_in(simulator, "secret", &json!({"domain": {"name": "ACCOUNT"}})).await;
    assert_eq!((answer.status, &answer.json()["token"]["domain"]["name"]), (201, &json!("ACCOUNT")));
    answer.header("x-subject-token").unwrap().to_owned()
}

async fn post(simulator: &Simulator, path: &str, token: &str, body: &str) -> Answer {
    call(simulator, path, &[JSON, ("X-Auth-Token", token)], body).await
}

async fn list_by(simulator: &Simulator, keys: &Keys, project_id: &str) -> Answer {
    let path = format!("/v1.0/{project_id}/kms/list-keys");
    Signed::new(simulator, "POST", &path, "{}", START).by(keys).send(simulator).await
}

#[tokio::test(start_paused = true)]
async fn only_an_agencys_token_is_accepted_for_a_delegated_project() {
    let simulator = start(delegated()).await;
    let token = account_token(&simulator).await;
    assert_eq!(kms_with(&simulator, &token, "list-keys", &json!({})).await.error(), (403, "KMS.0321".to_owned()));
    let by_name = json!({"domain_name": "CUSTOMER", "agency_name": "rotation"});
    let by_id = json!({"domain_id": DOMAIN_ID, "agency_name": "rotation"});
    for (assume, scope) in [
        (&by_name, json!({"project": {"id": OTHER_PROJECT}})),
        (&by_id, json!({"project": {"name": "eu-de"}})),
        (&by_id, json!({"project": {"name": "eu-de", "domain": {"id": DOMAIN_ID}}})),
    ] {
        let answer = post(&simulator, "/v3/auth/tokens", &token, &tokens_body(assume, &scope)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let about = &answer.json()["token"];
        assert_eq!((&about["project"]["id"], &about["methods"]), (&json!(OTHER_PROJECT), &json!(["assume_role"])));
        assert_eq!(about["project"]["domain"], json!({"id": DOMAIN_ID, "name": "CUSTOMER"}));
        let path = format!("/v1.0/{OTHER_PROJECT}/kms/list-keys");
        let agency_token = answer.header("x-subject-token").unwrap();
        assert_eq!(post(&simulator, &path, agency_token, "{}").await.status, 200);
        assert_eq!(kms_with(&simulator, agency_token, "list-keys", &json!({})).await.status, 403);
    }
    let forbidden = (403, "403".to_owned());
    let scope = json!({"project": {"id": OTHER_PROJECT}});
    assert_eq!(log_in(&simulator, "secret", &scope).await.error(), forbidden, "only with the agency");
    assert_eq!(list_by(&simulator, &Keys::permanent(), OTHER_PROJECT).await.error(), (403, "KMS.0321".to_owned()));
    let other_domain = json!({"domain": {"id": DOMAIN_ID}});
    assert_eq!(log_in(&simulator, "secret", &other_domain).await.error(), forbidden);
    let owner = json!({"name": "owner", "password": "secret", "domain": {"name": "CUSTOMER"}});
    let owner = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": owner}}, "scope": scope}});
    assert_eq!(call(&simulator, "/v3/auth/tokens", &[JSON], &owner.to_string()).await.status, 201, "its own account");
    assert_eq!(simulator.handle().requests(Operation::AgencyToken), 3);
    assert_eq!(simulator.handle().requests(Operation::Authenticate), 4);
}

#[tokio::test(start_paused = true)]
async fn assuming_an_agency_is_refused_without_permission_or_if_it_does_not_exist() {
    let simulator = start(delegated()).await;
    let token = account_token(&simulator).await;
    let assume = json!({"domain_name": "CUSTOMER", "agency_name": "rotation"});
    let scope = json!({"project": {"id": OTHER_PROJECT}});
    let send = |token: String, assume: Value, scope: Value| {
        let simulator = &simulator;
        async move { post(simulator, "/v3/auth/tokens", &token, &tokens_body(&assume, &scope)).await.error() }
    };
    let error = |status, code: &str| (status, code.to_owned());
    for (assume, scope, expected) in [
        (json!({"domain_name": "CUSTOMER", "agency_name": "other"}), &scope, error(404, "IAM.0004")),
        (json!({"domain_name": "OTHER", "agency_name": "rotation"}), &scope, error(404, "IAM.0004")),
        (json!({"domain_id": PROJECT, "agency_name": "rotation"}), &scope, error(404, "IAM.0004")),
        (json!({"agency_name": "rotation"}), &scope, error(400, "400")),
        (assume.clone(), &json!({"project": {"id": PROJECT}}), error(403, "403")),
        (assume.clone(), &json!({"project": {"name": "eu-nl"}}), error(404, "IAM.0004")),
        (assume.clone(), &Value::Null, error(400, "400")),
    ] {
        assert_eq!(send(token.clone(), assume, scope.clone()).await, expected);
    }
    let unscoped = log_in(&simulator, "secret", &Value::Null).await.header("x-subject-token").unwrap().to_owned();
    assert_eq!(send(unscoped, assume.clone(), scope.clone()).await, error(403, "IAM.0003"));
    assert_eq!(send("made-up".to_owned(), assume.clone(), scope.clone()).await, error(401, "IAM.0067"));
    assert_eq!(send(String::new(), assume.clone(), scope.clone()).await, error(401, "IAM.0001"));
    let body = tokens_body(&assume, &scope);
    let signed = Signed::new(&simulator, "POST", "/v3/auth/tokens", &body, START).by(&Keys::permanent());
    assert_eq!(signed.send(&simulator).await.error(), error(401, "401"), "documented for tokens alone");
    simulator.handle().behave(|cloud| cloud.forbidden = Operation::AgencyToken.into());
    assert_eq!(send(token.clone(), assume.clone(), scope.clone()).await, error(403, "IAM.0003"));
    simulator.handle().revoke_tokens();
    assert_eq!(send(token, assume, scope).await, error(401, "IAM.0067"));
}

#[tokio::test(start_paused = true)]
async fn temporary_keys_have_the_permissions_of_their_agency_or_token() {
    const PATH: &str = "/v3.0/OS-CREDENTIAL/securitytokens";
    let simulator = start(delegated()).await;
    let signed = |body: &str| Signed::new(&simulator, "POST", PATH, body, START).by(&Keys::permanent());
    let assume = |seconds: Value| {
        let assume = json!({"domain_name": "CUSTOMER", "agency_name": "rotation", "duration_seconds": seconds});
        keys_body("assume_role", &assume)
    };
    let by_signature = signed(&assume(json!(3600))).send(&simulator).await;
    assert_eq!(by_signature.status, 201);
    assert_eq!(by_signature.json()["credential"]["expires_at"], "2023-11-14T23:13:20.000000Z");
    let token = account_token(&simulator).await;
    let by_token = post(&simulator, PATH, &token, &assume(Value::Null)).await;
    assert_eq!(by_token.json()["credential"]["expires_at"], "2023-11-14T22:28:20.000000Z", "900 s by default");
    for answer in [by_signature, by_token] {
        let keys = Keys::temporary(&answer);
        assert_eq!(list_by(&simulator, &keys, OTHER_PROJECT).await.status, 200);
        assert_eq!(list_by(&simulator, &keys, PROJECT).await.error(), (403, "KMS.0321".to_owned()));
    }
    for seconds in [json!(899), json!(86_401), json!("3600")] {
        assert_eq!(signed(&assume(seconds)).send(&simulator).await.status, 400);
    }
    for seconds in [900, 86_400] {
        assert_eq!(signed(&assume(json!(seconds))).send(&simulator).await.status, 201);
    }

    let exchange = keys_body("token", &json!({"id": TOKEN, "duration_seconds": 900}));
    let keys = Keys::temporary(&call(&simulator, PATH, &[JSON], &exchange).await);
    let read = Signed::kms(&simulator, "get-key-rotation-status", &json!({"key_id": KEY}), START).by(&keys);
    assert_eq!(read.send(&simulator).await.status, 200);
    let unscoped = log_in(&simulator, "secret", &Value::Null).await;
    let unscoped = unscoped.header("x-subject-token").unwrap();
    let answer = post(&simulator, PATH, unscoped, &keys_body("token", &json!({}))).await;
    assert_eq!(list_by(&simulator, &Keys::temporary(&answer), PROJECT).await.status, 200, "the header's token will do");
    for (body, status) in [
        (keys_body("token", &json!({"id": "made-up"})), 401),
        (keys_body("token", &json!({})), 401),
        (keys_body("password", &json!({})), 401),
        (json!({"auth": {}}).to_string(), 400),
        (String::new(), 400),
    ] {
        assert_eq!(call(&simulator, PATH, &[JSON], &body).await.status, status, "{body}");
    }
    let wrong = Signed::new(&simulator, "POST", PATH, &assume(Value::Null), START).by(&Keys::new(ACCESS, "wrong"));
    assert_eq!(wrong.send(&simulator).await.error(), (401, "APIGW.0301".to_owned()));
    simulator.handle().behave(|cloud| cloud.forbidden = Operation::TemporaryKeys.into());
    assert_eq!(signed(&assume(Value::Null)).send(&simulator).await.error(), (403, "IAM.0003".to_owned()));
    assert_eq!(call(&simulator, PATH, &[JSON], &exchange).await.error(), (403, "IAM.0003".to_owned()));
}
