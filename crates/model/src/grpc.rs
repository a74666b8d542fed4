//! The numbers and names of gRPC's canonical status codes.

macro_rules! statuses {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $number:literal;)*) => {
        /// A status code of gRPC (`google.rpc.Code`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum GrpcStatus {
            $($(#[doc = $doc])* $name,)*
        }

        impl GrpcStatus {
            /// Every status, by its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// The name in gRPC's documentation.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

statuses! {
    /// Success.
    Ok = "OK", 0;
    /// The caller cancelled the call.
    Cancelled = "CANCELLED", 1;
    /// An error without a code of its own.
    Unknown = "UNKNOWN", 2;
    /// The request is wrong, whatever the state of the system.
    InvalidArgument = "INVALID_ARGUMENT", 3;
    /// The deadline expired.
    DeadlineExceeded = "DEADLINE_EXCEEDED", 4;
    /// The requested object does not exist.
    NotFound = "NOT_FOUND", 5;
    /// The object to create already exists.
    AlreadyExists = "ALREADY_EXISTS", 6;
    /// The caller may not do this.
    PermissionDenied = "PERMISSION_DENIED", 7;
    /// A resource is exhausted.
    ResourceExhausted = "RESOURCE_EXHAUSTED", 8;
    /// The state of the system does not allow this; a retry alone does not help.
    FailedPrecondition = "FAILED_PRECONDITION", 9;
    /// A conflict with another operation; the caller should retry all of it.
    Aborted = "ABORTED", 10;
    /// Beyond a valid range.
    OutOfRange = "OUT_OF_RANGE", 11;
    /// The method does not exist here.
    Unimplemented = "UNIMPLEMENTED", 12;
    /// An internal error.
    Internal = "INTERNAL", 13;
    /// The service cannot be used now; a retry may help.
    Unavailable = "UNAVAILABLE", 14;
    /// Data was lost or damaged.
    DataLoss = "DATA_LOSS", 15;
    /// The caller has no valid credentials.
    Unauthenticated = "UNAUTHENTICATED", 16;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbered_as_on_the_wire() {
        for (number, status) in GrpcStatus::ALL.iter().enumerate() {
            assert_eq!(usize::from(status.number()), number, "{}", status.as_str());
        }
    }
}
