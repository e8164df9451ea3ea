/**
 * Credentials of TLS by the id of the object that holds them.
 */
import type { TlsCredentials } from "../../base/host.ts";
import { tlsIdentitiesOf } from "../../crypto/tls-credentials.ts";
import type { Engine } from "../../machine/engine.ts";

/** Those of an engine's object. Throws CommandError: no such object, one that holds none, or those of the other side. */
export function tlsCredentialsOf(engine: Engine, id: string, side: "client" | "server"): TlsCredentials {
  const isObject = engine.objects.list().some(({ name }) => name === id);
  return tlsIdentitiesOf(engine.graph).lookup(id, side, isObject);
}
