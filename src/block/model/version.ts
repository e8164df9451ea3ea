/**
 * Which content a disk has that others may replace under the same name, as a web server may: what an overlay was made over is
 * kept with it and compared when it is opened, so that two versions are never mixed. Source: RFC 9110, section 8.8.
 */

/** A version, as far as its storage has told. Equal manifests are equal contents, whatever the rest says. */
export interface ContentVersion {
  /** Where it is, without a query, which may hold a secret: for messages only. */
  readonly url: string;
  /** Bytes. */
  readonly size: number;
  readonly etag?: string | undefined;
  readonly "last-modified"?: string | undefined;
  /** The hash of the manifest by which it is checked. */
  readonly manifest?: string | undefined;
}
