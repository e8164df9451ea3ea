/** Calls for each, so many at once; answers what they came to, in order. */
export async function inBatches<T, R>(
  most: number,
  items: readonly T[],
  each: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += most)
    results.push(...(await Promise.all(items.slice(at, at + most).map(each))));
  return results;
}
