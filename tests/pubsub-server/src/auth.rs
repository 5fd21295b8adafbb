//! Service-account keys made on the spot, and the check of the tokens signed with them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::faults::Auth;

/// What a token must allow.
const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";
/// How far the clocks may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Longest time from a token's issue to its end: an hour, and the client's 20 s of leeway.
const LIFETIME_MAX: Duration = Duration::from_secs(3620);
/// Characters in a line of a PEM file.
const PEM_LINE: usize = 64;

/// A service account's key, made at run time: no key is in the repository.
pub struct Key {
    email: String,
    id: String,
    pem: String,
    public: PublicKey,
}

/// The half of a [`Key`] that checks tokens.
#[derive(Clone)]
pub struct PublicKey {
    email: String,
    id: String,
    der: Vec<u8>,
}

impl Key {
    /// Makes an RSA key of 2048 bits for the service account of this e-mail address.
    pub fn generate(email: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("the library makes keys");
        let private: Pkcs8V1Der<'_> = pair.as_der().expect("the library writes its keys");
        let der = pair.public_key().as_ref().to_vec();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        let id: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let public = PublicKey {
            email: email.to_owned(),
            id: id.clone(),
            der,
        };
        Self {
            email: email.to_owned(),
            id,
            pem: pem(private.as_ref()),
            public,
        }
    }

    /// The key file, as Google gives it out.
    pub fn json(&self) -> String {
        let file = json!({
            "type": "service_account",
            "project_id": "test",
            "private_key_id": self.id,
            "private_key": self.pem,
            "client_email": self.email,
            "client_id": "100000000000000000000",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token",
            "universe_domain": "googleapis.com",
        });
        format!("{file:#}\n")
    }

    /// What the server needs to check this key's tokens.
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("email", &self.email)
            .field("id", &self.id)
            .finish()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey")
            .field("email", &self.email)
            .field("id", &self.id)
            .finish()
    }
}

impl Auth {
    /// The error says what is wrong with the token.
    pub(crate) fn check(&self, token: Option<&str>, now: SystemTime) -> Result<(), String> {
        match self {
            Self::Anyone => Ok(()),
            Self::Holder(key) => key.check(token.ok_or("no bearer token")?, now),
            Self::Nobody => Err("all tokens are refused".to_owned()),
        }
    }
}

impl PublicKey {
    /// Checks a token that a service account signed for itself.
    fn check(&self, token: &str, now: SystemTime) -> Result<(), String> {
        let (signed, signature) = token.rsplit_once('.').ok_or("not a JWT: too few parts")?;
        let (header, claims) = signed.split_once('.').ok_or("not a JWT: too few parts")?;
        let signature = decode(signature)?;
        let header = decode_json(header)?;
        let claims = decode_json(claims)?;
        expect(&header, "alg", "RS256")?;
        expect(&header, "kid", &self.id)?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.der)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "the signature is not of this key")?;
        expect(&claims, "iss", &self.email)?;
        expect(&claims, "sub", &self.email)?;
        let scopes = claims["scope"].as_str().unwrap_or_default();
        if !scopes.split(' ').any(|scope| scope == SCOPE) {
            return Err(format!("the scope is {scopes:?}, without {SCOPE}"));
        }
        check_times(&claims, now)
    }
}

fn check_times(claims: &Value, now: SystemTime) -> Result<(), String> {
    let time = |name: &str| {
        let seconds = claims[name]
            .as_u64()
            .ok_or_else(|| format!("{name} is no time"))?;
        Ok::<_, String>(Duration::from_secs(seconds))
    };
    let (issued, expires) = (time("iat")?, time("exp")?);
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_err(|error| error.to_string())?;
    if issued > now + CLOCK_SKEW {
        return Err(format!("iat {issued:?} is in the future of {now:?}"));
    }
    if expires + CLOCK_SKEW < now {
        return Err(format!("exp {expires:?} is in the past of {now:?}"));
    }
    match expires.checked_sub(issued) {
        Some(lifetime) if lifetime <= LIFETIME_MAX => Ok(()),
        _ => Err(format!(
            "valid from {issued:?} to {expires:?}, longer than {LIFETIME_MAX:?}"
        )),
    }
}

fn expect(object: &Value, name: &str, wanted: &str) -> Result<(), String> {
    let found = &object[name];
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{name} is {found}, not {wanted:?}"))
    }
}

fn decode(part: &str) -> Result<Vec<u8>, String> {
    BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| format!("not a JWT: {error}"))
}

fn decode_json(part: &str) -> Result<Value, String> {
    serde_json::from_slice(&decode(part)?).map_err(|error| format!("not a JWT: {error}"))
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text
        .as_bytes()
        .chunks(PEM_LINE)
        .map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::RSA_PKCS1_SHA256;

    use super::*;

    const EMAIL: &str = "hearth@test.iam.gserviceaccount.com";
    const NOW: u64 = 1_700_000_000;

    fn encode(part: &Value) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(part.to_string())
    }

    /// Header, claims and signature of a token.
    fn token(key: &Key, claims: &Value) -> [String; 3] {
        let base64: String = key
            .pem
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let pair = KeyPair::from_pkcs8(&BASE64_STANDARD.decode(base64).unwrap()).unwrap();
        let (header, claims) = (
            encode(&json!({ "alg": "RS256", "kid": key.id })),
            encode(claims),
        );
        let mut signature = vec![0; pair.public_modulus_len()];
        let signed = format!("{header}.{claims}");
        let random = SystemRandom::new();
        pair.sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        )
        .unwrap();
        [header, claims, BASE64_URL_SAFE_NO_PAD.encode(signature)]
    }

    #[test]
    fn each_fault_of_a_token_is_found() {
        let key = Key::generate(EMAIL);
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let check = |token: &[String]| key.public.check(&token.join("."), now);
        let good = json!({
            "iss": EMAIL, "sub": EMAIL, "scope": SCOPE, "iat": NOW - 10, "exp": NOW + 3610,
        });
        let token_of_good = token(&key, &good);
        assert_eq!(check(&token_of_good), Ok(()));

        let faults = [
            ("iss", json!("someone"), "iss is"),
            ("sub", json!(null), "sub is"),
            ("scope", json!(format!("{SCOPE}.readonly")), "the scope is"),
            ("iat", json!(NOW + 61), "iat"),
            ("exp", json!(NOW - 61), "exp"),
            ("exp", json!(NOW + 3611), "valid from"),
            ("exp", json!("tomorrow"), "exp is no time"),
        ];
        for (name, value, reason) in faults {
            let mut claims = good.clone();
            claims[name] = value;
            let error = check(&token(&key, &claims)).unwrap_err();
            assert!(error.starts_with(reason), "{name}: {error}");
        }
        let [header, _, signature] = token_of_good;
        let forged = [header, encode(&json!({ "iss": EMAIL })), signature];
        assert_eq!(
            check(&forged).unwrap_err(),
            "the signature is not of this key"
        );
        assert_eq!(
            check(&["x".to_owned()]).unwrap_err(),
            "not a JWT: too few parts"
        );
    }
}
