/** The judgement after a power cut: no image is damaged (what leaks is allowed), and nothing that was flushed is lost. */
import { type ImagePlan, pathOf } from "./plan.ts";
import { checkQcow2 } from "./qcow2-check.ts";
import type { Story } from "./story.ts";

function judgeImage(story: Story, image: ImagePlan): void {
  const data = story.host.files.data(pathOf(image.name));
  if (image.format !== "qcow2") return;
  const { errors } = checkQcow2(data.bytes.subarray(0, data.size));
  // Lazy refcounts are put right when the image is opened for writing.
  if (image.lazyRefcounts) return;
  for (const error of errors.slice(0, 3))
    story.violations.push(`${image.name} after the power cut: ${error}`);
}

/** Judges a story that ended in a power cut, under the root that the guest had. */
export async function judgeCut(story: Story, root: string): Promise<void> {
  const { plan, world, guest } = story;
  const images = [...plan.chain, ...(plan.target ? [plan.target] : [])];
  for (const image of images) judgeImage(story, image);
  const image = images.find(({ name }) => name === root);
  if (!image) return void story.violations.push("the guest's disk was none of the images");
  try {
    const content = await world.reopened(image);
    const at = guest.durable.difference(content.subarray(0, guest.model.length));
    if (at >= 0) story.violations.push(`${root} after the power cut: what was flushed is lost at ${at}`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    story.violations.push(`${root} can't be opened after the power cut: ${message}`);
  }
}
