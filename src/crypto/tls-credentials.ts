/**
 * TLS credentials by id (`object-add qom-type=tls-creds-…`): who a server or a client is, by certificates or by shared keys.
 * Source: QAPI TlsCreds*Properties; words of QEMU 7.2.
 */
import { CommandError } from "../base/errors.ts";
import type { TlsCredentials } from "../base/host.ts";

/** Which side an object is for. */
export type TlsEndpoint = "client" | "server";

/** One object. */
export interface TlsIdentity {
  readonly endpoint: TlsEndpoint;
  readonly credentials: TlsCredentials;
}

/** The credentials of one engine. */
export class TlsIdentities {
  readonly #known = new Map<string, TlsIdentity>();

  set(id: string, identity: TlsIdentity): void {
    this.#known.set(id, identity);
  }

  /** Forgets one; connections that were made with it stay. */
  delete(id: string): void {
    this.#known.delete(id);
  }

  /** The credentials of an object for one side. `exists`: whether there is an object of that id at all. Throws CommandError. */
  lookup(id: string, endpoint: TlsEndpoint, exists = false): TlsCredentials {
    const identity = this.#known.get(id);
    if (!identity)
      throw new CommandError(
        exists ? `Object with id '${id}' is not TLS credentials` : `No TLS credentials with id '${id}'`,
      );
    if (identity.endpoint !== endpoint)
      throw new CommandError(`Expected TLS credentials for a ${endpoint} endpoint`);
    return identity.credentials;
  }
}

const byEngine = new WeakMap<object, TlsIdentities>();

/** Those of an engine, which its graph stands for; made when first asked for. */
export function tlsIdentitiesOf(graph: object): TlsIdentities {
  let identities = byEngine.get(graph);
  if (!identities) byEngine.set(graph, (identities = new TlsIdentities()));
  return identities;
}
