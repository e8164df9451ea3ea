/**
 * In whose name a disk is asked for: user name and password, cookies, and whether the server's certificate is checked.
 *
 * Invariants: passwords and cookies are named by secrets or options and show in no error; they go to the disk's own origin
 * only. What a platform can't send is refused when the disk is opened. Source: QAPI BlockdevOptionsCurlBase; RFC 7617.
 */
import type { HostHttp, HttpRequest } from "../../../base/host.ts";
import type { NodeSpec, OpenContext } from "../../../block/model/contract.ts";
import { optionError, stringOption } from "../../../block/model/options.ts";
import type { Attempt } from "./attempts.ts";

/** What goes along with requests. */
export interface Account {
  readonly headers: Readonly<Record<string, string>>;
  readonly verifiesTls: boolean;
}

/** What a request needs of the disk's options. */
interface Asker {
  readonly url: string;
  readonly credentials: HttpRequest["credentials"];
  readonly account: Account;
}

function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function secretText({ graph }: Pick<OpenContext, "graph">, id: string): string {
  return new TextDecoder().decode(graph.secrets.lookupText(id));
}

function basic(spec: NodeSpec, context: Pick<OpenContext, "graph">): Record<string, string> {
  const name = stringOption(spec, "username");
  const secret = stringOption(spec, "password-secret");
  if (name === undefined && secret === undefined) return {};
  if (name?.includes(":")) throw optionError("Parameter 'username' may hold no colon");
  const password = secret === undefined ? "" : secretText(context, secret);
  return { Authorization: `Basic ${base64(`${name ?? ""}:${password}`)}` };
}

function cookies(
  spec: NodeSpec,
  context: Pick<OpenContext, "graph">,
  http: HostHttp,
): Record<string, string> {
  const given = stringOption(spec, "cookie");
  const secret = stringOption(spec, "cookie-secret");
  if (given !== undefined && secret !== undefined)
    throw optionError("curl driver cannot handle both cookie and cookie secret");
  const option = given === undefined ? "cookie-secret" : "cookie";
  const cookie = secret === undefined ? given : secretText(context, secret);
  if (cookie === undefined) return {};
  if (!http.sendsCookies)
    throw optionError(
      `Parameter '${option}': a page can't set cookies; 'credentials' sends the browser's own`,
    );
  if (!/^[\x20-\x7e]*$/.test(cookie))
    throw optionError(`Parameter '${option}' has a character that no cookie has`);
  return { Cookie: cookie };
}

function verifiesTls(spec: NodeSpec, http: HostHttp): boolean {
  const verify = spec["sslverify"];
  if (verify === undefined) return true;
  if (spec.driver !== "https") throw optionError("Parameter 'sslverify' is unexpected");
  if (verify !== true && verify !== false)
    throw optionError("Invalid parameter type for 'sslverify', expected: boolean");
  if (!verify && !http.skipsTlsChecks)
    throw optionError("Parameter 'sslverify': a page always checks certificates");
  return verify;
}

/** The options `username`, `password-secret`, `cookie`, `cookie-secret` and `sslverify`. CommandError for a missing secret. */
export function accountOptions(spec: NodeSpec, context: Pick<OpenContext, "graph">, http: HostHttp): Account {
  return {
    headers: { ...basic(spec, context), ...cookies(spec, context, http) },
    verifiesTls: verifiesTls(spec, http),
  };
}

/** Sends a GET in the disk's name; a resource of another origin gets none of it. */
export async function ask(
  http: HostHttp,
  { url: disk, credentials, account }: Asker,
  { url = disk, attempt, headers = {} }: { url?: string; attempt: Attempt; headers?: Record<string, string> },
): ReturnType<HostHttp["get"]> {
  const isOwn = new URL(url).origin === new URL(disk).origin;
  const response = await http.get(url, {
    headers: isOwn ? { ...headers, ...account.headers } : headers,
    credentials,
    signal: attempt.signal,
    ...(isOwn && !account.verifiesTls ? { skipTlsChecks: true } : {}),
  });
  attempt.progress();
  return response;
}
