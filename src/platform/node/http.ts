/**
 * HTTP by Node's fetch. There is no cookie jar, so nothing goes along that the caller has not put into the headers. Requests
 * that shall do without the check of certificates go by node:https, since fetch has no such choice; they follow no
 * redirect.
 */
import type { HostHttp, HttpRequest, HttpResponse } from "../../base/host.ts";

async function getUnchecked(url: string, { headers, signal }: HttpRequest): Promise<HttpResponse> {
  const [{ get }, { Readable }] = await Promise.all([import("node:https"), import("node:stream")]);
  return new Promise((resolve, reject) => {
    const request = get(url, { headers, signal, rejectUnauthorized: false }, (answer) => {
      const value = (name: string): string | null => answer.headers[name]?.toString() ?? null;
      const body = Readable.toWeb(answer) as ReadableStream<Uint8Array>;
      resolve({
        status: answer.statusCode ?? 0,
        headers: { get: (name) => value(name.toLowerCase()) },
        body,
      });
    });
    request.once("error", (error) => reject(signal.aborted ? (signal.reason as Error) : error));
  });
}

/** The HTTP of this process. */
export const nodeHttp: HostHttp = {
  sendsCookies: true,
  skipsTlsChecks: true,
  get: (url, request) => {
    const { headers, signal, skipTlsChecks = false } = request;
    return skipTlsChecks ? getUnchecked(url, request) : fetch(url, { headers, signal, cache: "no-store" });
  },
  send: (url, { method, headers, body, signal }) =>
    fetch(url, { method, headers, signal, cache: "no-store", redirect: "manual", ...(body ? { body } : {}) }),
};
