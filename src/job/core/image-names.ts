/**
 * Images of a chain by the file names of a command: a name means what it means from the folder of the image above, and is compared
 * by its real path, so that links, dots and absolute names lead to the same image. Source: behaviour of QEMU 7.2's
 * block-commit and block-stream.
 */
import { backingChainNext, skipFilters } from "../../block/model/chain.ts";
import { imageFilename, nodeFilename, ownFilename } from "../../block/model/filename.ts";
import { hasProtocol } from "../../block/model/gate.ts";
import type { BlockNode } from "../../block/model/node.ts";

/** The image below `top` that goes by one of the names looked up before; of the chain as it is now. */
export type ImageLookup = (top: BlockNode, filename: string) => BlockNode | undefined;

/**
 * Looks up what file names mean in the chain below `top`, which takes time, so that the choice itself needs none and no change of the
 * chain can come between it and its use. Never rejects: a name that leads nowhere means no image.
 */
export async function imagesByName(
  top: BlockNode,
  filenames: readonly (string | undefined)[],
): Promise<ImageLookup> {
  const wanted = new Set(filenames.filter((name) => name !== undefined));
  const meant = new Map([...wanted].map((name) => [name, new Set<BlockNode>()]));
  if (wanted.size > 0) {
    for (const { image, below } of links(top)) {
      const isName = await namesOf(image, below);
      for (const [name, images] of meant) if (await isName(name)) images.add(below);
    }
  }
  return (from, filename) => links(from).find(({ below }) => meant.get(filename)?.has(below))?.below;
}

interface Link {
  image: BlockNode;
  below: BlockNode;
}

/** Each image with the one below it, from `top` down. */
function links(top: BlockNode): Link[] {
  const all: Link[] = [];
  for (let image = skipFilters(top); ;) {
    const below = backingChainNext(image);
    if (!below) return all;
    all.push({ image, below });
    image = below;
  }
}

/** What tells whether a name, seen from `image`, is one of the image below it. */
async function namesOf(image: BlockNode, below: BlockNode): Promise<(name: string) => Promise<boolean>> {
  const { files } = image.services.host;
  const real = (path: string): Promise<string | undefined> =>
    path === "" ? Promise.resolve(undefined) : files.realPath(path).catch(() => undefined);
  const fromImage = (name: string): string => files.resolve(imageFilename(image), name);
  const own = [ownFilename(below), nodeFilename(below)];
  const place = await real(imageFilename(below));
  const header = image.driver.headerBacking?.filename();
  // Another file than the header's goes by no name of the header's.
  const isOfHeader = header !== undefined && (await real(fromImage(header))) === place;
  // The name as it was opened counts only where someone gave it: else `dir/base` below `dir/top` would be two images.
  const isGiven = image.spec["backing"] !== undefined || !isOfHeader;
  return async (name) => {
    if (isGiven && own.includes(name)) return true;
    if (!isOfHeader) return false;
    if (name === header) return true;
    if (hasProtocol(name) || hasProtocol(header)) return name === fromImage(header);
    return place !== undefined && (await real(fromImage(name))) === place;
  };
}
