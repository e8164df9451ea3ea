/**
 * TLS over a connected socket, for NBD's STARTTLS: certificates, keys that both sides share, or neither. Node's `tls` is loaded
 * at the first use. Errors are in QEMU's words where it has some.
 */
import type * as net from "node:net";
import type * as tls from "node:tls";
import { blockError, messageOf } from "../../base/errors.ts";
import type { StartTls, TlsCredentials } from "../../base/host.ts";

/** Suites whose keys come from a shared one, or from nobody: TLS 1.2, since Node offers those of 1.3 with certificates only. */
const PSK_CIPHERS =
  "ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES256-CBC-SHA384:DHE-PSK-AES256-GCM-SHA384:PSK-AES256-GCM-SHA384";
const ANON_CIPHERS = "ADH-AES256-GCM-SHA384:ADH-AES128-GCM-SHA256:@SECLEVEL=0";

/** What node:tls takes of credentials. */
interface ContextOptions {
  ca?: string;
  cert?: string;
  key?: string;
  passphrase?: string;
  ciphers?: string;
  maxVersion?: "TLSv1.2";
  dhparam?: "auto";
}

/** Credentials as node:tls takes them. */
export function contextOptions(credentials: TlsCredentials): ContextOptions {
  if (credentials.kind === "psk") return { ciphers: PSK_CIPHERS, maxVersion: "TLSv1.2" };
  if (credentials.kind === "anon") return { ciphers: ANON_CIPHERS, maxVersion: "TLSv1.2", dhparam: "auto" };
  const { authority, certificate, key, passphrase } = credentials;
  const pem = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return {
    ...(authority ? { ca: pem(authority) } : {}),
    ...(certificate ? { cert: pem(certificate) } : {}),
    ...(key ? { key: pem(key) } : {}),
    ...(passphrase === undefined ? {} : { passphrase }),
  };
}

/** The one key of a client, with its user. */
function ownKey(keys: ReadonlyMap<string, Uint8Array>): { identity: string; psk: Uint8Array } | null {
  for (const [identity, psk] of keys) return { identity, psk };
  return null;
}

function clientSocket(socket: net.Socket, { credentials, hostname }: StartTls): tls.TLSSocket {
  const isNamed = hostname !== undefined && process.getBuiltinModule("node:net").isIP(hostname) === 0;
  const keys = credentials.kind === "psk" ? credentials.keys : undefined;
  return process.getBuiltinModule("node:tls").connect({
    ...contextOptions(credentials),
    socket,
    rejectUnauthorized: credentials.kind === "x509" && credentials.verifyPeer,
    ...(isNamed ? { servername: hostname } : {}),
    ...(keys ? { pskCallback: () => ownKey(keys) } : {}),
    checkServerIdentity: (_name, certificate) => {
      if (credentials.kind !== "x509" || hostname === undefined) return undefined;
      return process.getBuiltinModule("node:tls").checkServerIdentity(hostname, certificate);
    },
  });
}

/** What a listening server of TLS is made of. */
export function serverOptions(credentials: TlsCredentials): tls.TlsOptions {
  const verifies = credentials.kind === "x509" && credentials.verifyPeer;
  const keys = credentials.kind === "psk" ? credentials.keys : undefined;
  return {
    ...contextOptions(credentials),
    requestCert: verifies,
    rejectUnauthorized: verifies,
    ...(keys ? { pskCallback: (_socket: tls.TLSSocket, user: string) => keys.get(user) ?? null } : {}),
  };
}

/** The server's side: Node checks a client's certificate for a listening server only, so that one is made and given the socket. */
function serve(
  socket: net.Socket,
  { credentials }: StartTls,
  told: { secured: (secured: tls.TLSSocket) => void; fail: (error: unknown) => void },
): void {
  const server = process
    .getBuiltinModule("node:tls")
    .createServer({ ...serverOptions(credentials), allowHalfOpen: true });
  server.once("secureConnection", told.secured);
  server.once("tlsClientError", told.fail);
  server.emit("connection", socket);
}

/** What QEMU says of a certificate that is not good. */
const certificateWords: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "The certificate has expired",
  CERT_NOT_YET_VALID: "The certificate is not yet activated",
  CERT_REVOKED: "The certificate has been revoked",
  SELF_SIGNED_CERT_IN_CHAIN: "The certificate hasn't got a known issuer",
  DEPTH_ZERO_SELF_SIGNED_CERT: "The certificate hasn't got a known issuer",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "The certificate hasn't got a known issuer",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "The certificate hasn't got a known issuer",
};

function tlsError(error: unknown, hostname: string | undefined): Error {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return blockError("EACCES", "connect", `Certificate does not match the hostname ${hostname ?? ""}`);
  const words = certificateWords[code];
  if (words !== undefined) return blockError("EACCES", "connect", words);
  return blockError("EIO", "connect", `TLS handshake failed: ${reasonOf(error) ?? messageOf(error)}`);
}

/** What OpenSSL names the reason, without the address, the place in its source and the number around it. */
function reasonOf(error: unknown): string | undefined {
  const reason = error instanceof Error && "reason" in error ? error.reason : undefined;
  return typeof reason === "string" ? reason : undefined;
}

/** Begins TLS on a socket, of which nothing is read any more. Rejects in QEMU's words, and the socket is gone. */
export function secure(socket: net.Socket, how: StartTls): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => {
      socket.destroy();
      reject(tlsError(error, how.hostname));
    };
    const ended = (): void => fail(new Error("The TLS connection was non-properly terminated."));
    socket.once("close", ended);
    const secured = (connection: tls.TLSSocket): void => {
      socket.off("close", ended);
      connection.off("error", fail);
      resolve(connection);
    };
    try {
      if (how.role === "server") return serve(socket, how, { secured, fail });
      const connection = clientSocket(socket, how);
      connection.once("error", fail);
      connection.once("secureConnect", () => secured(connection));
    } catch (error) {
      fail(error);
    }
  });
}
