/**
 * HTTP by Node's fetch. There is no cookie jar, so nothing goes along that the caller has not put into the headers.
 */
import type { HostHttp } from "../../base/host.ts";

/** The HTTP of this process. */
export const nodeHttp: HostHttp = {
  get: (url, { headers, signal }) => fetch(url, { headers, signal, cache: "no-store" }),
};
