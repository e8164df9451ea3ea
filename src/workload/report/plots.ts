/**
 * The line pictures of a page: by uPlot where its script is at hand, which the page then carries with it, else as SVG.
 *
 * Invariant: what a result says goes into the page as JSON without a `<`, and comes out of it as text.
 */
import { type PictureOptions, type Series, lineColours, linePicture, thinned } from "./picture.ts";

/** JSON inside of an element. */
export function embedded(id: string, value: unknown): string {
  const json = JSON.stringify(value).replaceAll("<", "\\u003c");
  return `<script type="application/json" id="${id}">${json}</script>`;
}

/** What of uPlot's own sheet these pictures need, and what of the page's tables their legends do not. */
const STYLE = `.uplot,.uplot *{box-sizing:border-box}.u-wrap{position:relative;user-select:none}.u-over,.u-under,.u-axis,.u-select{position:absolute}.u-under{overflow:hidden}.uplot canvas{display:block;width:100%;height:100%}
.u-legend{margin:auto}.u-legend th,.u-legend td{border:0;padding:.1rem .3rem}.u-inline tr{display:inline-block;margin-right:1rem}.u-legend th{cursor:pointer}.u-legend th>*{display:inline-block;vertical-align:middle}.u-marker{width:1em;height:1em;margin-right:.3em}.u-off>*{opacity:.3}
.u-select{background:#8883;pointer-events:none}.u-cursor-x,.u-cursor-y,.u-cursor-pt{position:absolute;left:0;top:0;pointer-events:none;will-change:transform}.u-cursor-x{height:100%;border-right:1px dashed #607d8b}.u-cursor-y{width:100%;border-bottom:1px dashed #607d8b}.u-cursor-pt{border-radius:50%;background-clip:padding-box!important}.u-select.u-off,.u-cursor-x.u-off,.u-cursor-y.u-off,.u-cursor-pt.u-off{display:none}`;

/** Draws each figure from its description; pictures over time share their cursor. */
const DRAW = `const plots=JSON.parse(document.getElementById("plots").textContent),colour=getComputedStyle(document.body).color;
document.querySelectorAll("figure.plot").forEach((figure,i)=>{const{xLabel,yLabel,logY,ticks,colours,series}=plots[i];
const size=()=>({width:Math.max(280,figure.clientWidth),height:280}),number=v=>v==null?"":String(Number(v.toPrecision(4))),share=v=>v==null?"":String(Number((100-100/10**v).toFixed(4)))+" %",text=ticks?share:number;
const axis={stroke:colour,grid:{stroke:"#8884",width:1},ticks:{stroke:"#8884",width:1}};
const plot=new uPlot({...size(),scales:{x:{time:false},y:logY?{distr:3}:{range:(_,low,high)=>[0,high||1]}},cursor:ticks?{}:{sync:{key:"time"}},
axes:[{...axis,values:(_,all)=>all.map(text),...(ticks?{splits:(u,_,low,high)=>ticks.filter(t=>t>=low&&t<=high)}:{})},{...axis,size:80,label:yLabel,values:(_,all)=>all.map(number)}],
series:[{label:ticks?"of all":xLabel,value:(_,v)=>text(v)},...series.map(({name},at)=>({label:name,stroke:colours[at%colours.length],width:1.5,spanGaps:true,points:{show:false},value:(_,v)=>number(v)}))]},uPlot.join(series.map(({x,y})=>[x,y])),figure);
new ResizeObserver(()=>plot.setSize(size())).observe(figure)})`;

/** Places of a chart's figures that are worth their digits. */
const DIGITS = 6;

const rounded = (value: number): number => Number(value.toPrecision(DIGITS));

/** The pictures of one page. */
export class Plots {
  readonly #script: string | undefined;
  readonly #told: unknown[] = [];

  /** `script` is uPlot's (dist/uPlot.iife.min.js), which defines `uPlot`; undefined: pictures are SVG. */
  constructor(script: string | undefined) {
    this.#script = script;
  }

  /** One picture, as HTML. */
  picture(series: readonly Series[], options: PictureOptions): string {
    const isEmpty = series.every(({ points }) => points.length === 0);
    if (this.#script === undefined || isEmpty) return linePicture(series, options);
    const { title, yLabel, xLabel, logY, xTicks } = options;
    this.#told.push({
      xLabel,
      yLabel,
      logY,
      ticks: xTicks?.map(({ at }) => at),
      colours: lineColours,
      series: series.map(({ name, points }) => {
        const kept = thinned(points).filter(({ y }) => !logY || y > 0);
        return { name, x: kept.map(({ x }) => rounded(x)), y: kept.map(({ y }) => rounded(y)) };
      }),
    });
    return `<figure class="plot" role="img" aria-label="${title}"><figcaption>${title}</figcaption></figure>`;
  }

  /** What stands behind all pictures: their description, uPlot, and what draws them. Empty where they need none. */
  get scripts(): string {
    if (this.#script === undefined || this.#told.length === 0) return "";
    const words = "<noscript><p>The pictures need JavaScript.</p></noscript>";
    return `<style>${STYLE}</style>${embedded("plots", this.#told)}${words}<script>${this.#script}</script><script>${DRAW}</script>`;
  }
}
