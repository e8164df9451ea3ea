/**
 * TLS credentials, as objects: who is at the ends of a socket. Apart from the options of nodes, since a page has no use for them.
 * Source: QAPI crypto schema, QEMU 7.2.
 */
import { enumOf, extend, struct } from "./schema.ts";

/** The types of TLS credentials. */
export const tlsTypes = {
  QCryptoTLSCredsEndpoint: enumOf("client", "server"),
  TlsCredsProperties: struct({
    "*verify-peer": "bool",
    "*dir": "str",
    "*endpoint": "QCryptoTLSCredsEndpoint",
    "*priority": "str",
  }),
  TlsCredsAnonProperties: extend("TlsCredsProperties", {
    "*loaded": { type: "bool", features: ["deprecated"] },
  }),
  TlsCredsPskProperties: extend("TlsCredsProperties", {
    "*loaded": { type: "bool", features: ["deprecated"] },
    "*username": "str",
  }),
  TlsCredsX509Properties: extend("TlsCredsProperties", {
    "*loaded": { type: "bool", features: ["deprecated"] },
    "*sanity-check": "bool",
    "*passwordid": "str",
  }),
} as const;
