// What the library's files name, for those who read them without running them: a bundler looks for the script of a worker by the URL that
// stands there. The sources name it beside the entries; code that several entries have is in a chunk, a folder further down.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** What files name others by. A minifier that limits lines may have broken it. */
const NAMED = /(?:new URL\(|import\(|from|import)"(?:[^"\\]|\\\n)*"/g;
const OWN_URL = /new URL\("(\.[^"]+)",\s*import\.meta\.url\)/g;

/**
 * Makes the URLs in the files of a bundle right for where these lie, and all names whole. Throws for a file that is not there.
 *
 * @param {string} root
 * @param {{ outputs: Record<string, unknown> }} metafile
 * @param {string} folder where the entries lie
 */
export function placeUrls(root, { outputs }, folder) {
  for (const file of Object.keys(outputs)) {
    const text = readFileSync(join(root, file), "utf8");
    const whole = text.replaceAll(NAMED, (name) => name.replaceAll("\\\n", ""));
    const placed = whole.replaceAll(OWN_URL, (_, /** @type {string} */ named) => {
      const target = join(folder, named);
      if (!existsSync(join(root, target)))
        throw new Error(`${file} names ${named}, which is not in ${folder}`);
      const from = relative(dirname(file), target);
      return `new URL("${from.startsWith(".") ? from : `./${from}`}",import.meta.url)`;
    });
    if (placed !== text) writeFileSync(join(root, file), placed);
  }
}
