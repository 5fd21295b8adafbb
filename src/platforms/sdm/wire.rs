//! The names on SDM's wire, and what is known of their payloads (documented, or seen).

use serde_json::{Value, json};

use crate::event::Object;

/// What an event type is to a notification.
pub(super) enum EventKind {
    /// Something that happened; its short name.
    Activity(&'static str),
    /// A clip of a session.
    Clip,
}

/// The kind of a documented event type, or `None`.
pub(super) fn event_kind(name: &str) -> Option<EventKind> {
    Some(match name {
        "sdm.devices.events.CameraMotion.Motion" => EventKind::Activity("motion"),
        "sdm.devices.events.CameraPerson.Person" => EventKind::Activity("person"),
        "sdm.devices.events.CameraSound.Sound" => EventKind::Activity("sound"),
        "sdm.devices.events.DoorbellChime.Chime" => EventKind::Activity("chime"),
        "sdm.devices.events.CameraClipPreview.ClipPreview" => EventKind::Clip,
        _ => return None,
    })
}

const DEVICE_TRAITS: &str = "sdm.devices.traits.";
const MODE: &str = "sdm.devices.traits.ThermostatMode";
const SETPOINT: &str = "sdm.devices.traits.ThermostatTemperatureSetpoint";

/// True for a trait that the documents name.
pub(super) fn is_known_trait(name: &str) -> bool {
    let device_trait = matches!(
        name.strip_prefix(DEVICE_TRAITS),
        Some(
            "CameraClipPreview"
                | "CameraEventImage"
                | "CameraImage"
                | "CameraLiveStream"
                | "CameraMotion"
                | "CameraPerson"
                | "CameraSound"
                | "Connectivity"
                | "DoorbellChime"
                | "Fan"
                | "Humidity"
                | "Info"
                | "Settings"
                | "Temperature"
                | "ThermostatEco"
                | "ThermostatHvac"
                | "ThermostatMode"
                | "ThermostatTemperatureSetpoint"
        )
    );
    device_trait || is_name_trait(name)
}

/// True for a trait whose `customName` names the resource.
pub(super) fn is_name_trait(name: &str) -> bool {
    matches!(
        name,
        "sdm.devices.traits.Info" | "sdm.structures.traits.Info" | "sdm.structures.traits.RoomInfo"
    )
}

/// True for the traits that a suspect message has wrong.
pub(super) fn is_thermostat(name: &str) -> bool {
    name.strip_prefix(DEVICE_TRAITS)
        .is_some_and(|name| name.starts_with("Thermostat"))
}

/// True for the bogus payload of a thermostat: the only mode it claims to have is OFF.
pub(super) fn is_suspect(traits: &Object) -> bool {
    traits.get(MODE).and_then(|mode| mode.get("availableModes")) == Some(&json!(["OFF"]))
}

/// The fields that an empty trait clears: an empty setpoint means that there is none.
pub(super) fn cleared_fields(name: &str, fields: &Object) -> Option<Object> {
    (name == SETPOINT && fields.is_empty()).then(|| {
        [("heatCelsius", Value::Null), ("coolCelsius", Value::Null)]
            .map(|(field, value)| (field.to_owned(), value))
            .into_iter()
            .collect()
    })
}
