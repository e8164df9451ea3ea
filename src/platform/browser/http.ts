/**
 * HTTP by fetch, for pages and workers. The browser's cache is left out: it answers ranges of an old version, and the
 * data is kept by whoever asks for it. Source: WHATWG Fetch.
 */
import type { HostHttp } from "../../base/host.ts";

/** The page's address, or that of the page that a worker of a blob belongs to; undefined outside of browsers. */
function baseUrl(): string | undefined {
  if (typeof location === "undefined") return undefined;
  return location.protocol === "blob:" ? location.origin : location.href;
}

/** The HTTP of this page or worker. */
export function browserHttp(): HostHttp {
  const base = baseUrl();
  return {
    ...(base === undefined ? {} : { base }),
    get: (url, { headers, credentials, signal }) =>
      fetch(url, { headers, credentials, signal, cache: "no-store" }),
    send: (url, { method, headers, body, signal }) => {
      const content = body ? { body } : {};
      const how = { credentials: "omit", cache: "no-store", redirect: "manual" } as const;
      return fetch(url, { method, headers, signal, ...how, ...content });
    },
  };
}
