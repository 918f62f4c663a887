"use strict";
(() => {
  const element = (name) => document.getElementById(`viewer-${name}`);
  const say = (text) => { element("status").textContent = text; };
  const WHITE = [1, 1, 1, 1], BLACK = [0, 0, 0, 1], CROSS = [0.04, 0.39, 0.57, 1], LETTERS = [0.11, 0.13, 0.15, 1];
  const HOT = { R: [0, 255, 255, 255], G: [0, 0, 255, 255], B: [0, 0, 0, 255], A: [0, 190, 210, 220], I: [0, 90, 190, 255] };
  const GREY = { R: [255, 0], G: [255, 0], B: [255, 0], A: [255, 255], I: [0, 255] };
  // Orange and blue, which colour-blind readers tell apart (ColorBrewer, PuOr and RdBu).
  const ADDS = { R: [255, 253, 179], G: [255, 184, 88], B: [255, 99, 6], A: [0, 170, 255], I: [0, 1, 255] };
  const TAKES = { R: [255, 146, 33], G: [255, 197, 102], B: [255, 222, 172], A: [0, 170, 255], I: [0, 1, 255] };
  const OUTLINE = { R: [0, 181], G: [0, 23], B: [0, 158], A: [0, 255], I: [0, 1] };
  const STEPS = { // right, front, head: what a key adds to the voxel of the cross
    ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1],
    PageUp: [0, 1, 0], PageDown: [0, -1, 0],
  };

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  }

  async function loadNiiVue() {
    const packed = new Blob([bytes(element("niivue").textContent)]).stream();
    const code = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
    const script = document.createElement("script");
    script.type = "module";
    script.textContent = code; // the content policy allows just this text, by its digest
    return new Promise((resolve) => {
      addEventListener("niivue", (event) => resolve(event.detail), { once: true });
      document.head.append(script);
    });
  }

  function image(NVImage, base64, options) {
    return NVImage.loadFromBase64({ base64, name: "scan.nii.gz", ...options });
  }

  function suvWindow() {
    const low = Math.max(0, element("low").valueAsNumber || 0), high = element("high").valueAsNumber;
    return { cal_min: low, cal_max: Math.max(high > 0 ? high : 7, low + 0.1) };
  }

  function huWindow() {
    const [low, high] = element("hu").value.split(" ").map(Number);
    return { cal_min: low, cal_max: high };
  }

  function showWindow(scene) {
    for (const volume of scene.volumes) {
      if (volume.shows === "SUV") Object.assign(volume, suvWindow());
      if (volume.shows === "HU") Object.assign(volume, huWindow());
    }
    scene.updateGLVolume();
  }

  function showOverlays(scene) {
    scene.drawRimOpacity = element("contour")?.checked ? 1 : 0;
    scene.setDrawOpacity(element("contour")?.checked ? 0.01 : 0); // the rim is drawn where the area is
    scene.volumes.forEach((volume, place) => {
      if (volume.shows === "map") scene.setOpacity(place, element("map").checked ? 0.7 : 0);
    });
  }

  function mapImage(NVImage, base64, strongest) {
    const weakest = strongest * Number(element("screen").dataset.leastShare);
    return image(NVImage, base64, {
      colormap: "adds", colormapNegative: "takes",
      cal_min: weakest, cal_max: strongest, cal_minNeg: -weakest, cal_maxNeg: -strongest,
    });
  }

  // What is shown, from the bottom to the top: the chosen image, then its map or the PET over the CT.
  async function layers(NVImage, record) {
    const asked = record.ct ? element("image").value : "pet";
    const map = asked === "ct" ? "ct_map" : "map";
    const parts = asked === "pet"
      ? [["SUV", image(NVImage, record.pet, { colormap: "inverse-grey", ...suvWindow() })]]
      : [["HU", image(NVImage, record.ct, { colormap: "gray", ...huWindow() })]];
    if (asked === "fused") parts.push(["SUV", image(NVImage, record.pet, { colormap: "hot-clear", opacity: 0.8, ...suvWindow() })]);
    else if (record[map]) parts.push(["map", mapImage(NVImage, record[map], record[`${map}_max`])]);
    return Promise.all(parts.map(async ([shows, volume]) => Object.assign(await volume, { shows })));
  }

  async function showCase(scene, NVImage, moved) {
    const record = JSON.parse(element(`case-${element("case").value}`).textContent);
    const shown = await layers(NVImage, record);
    const dark = shown[0].shows === "HU"; // as CT is read
    Object.assign(scene.opts, { backColor: dark ? BLACK : WHITE, fontColor: dark ? WHITE : LETTERS });
    const contour = record.contour && await image(NVImage, record.contour, { cal_min: 0, cal_max: 1 });
    while (scene.volumes.length) scene.removeVolume(scene.volumes[scene.volumes.length - 1]);
    scene.closeDrawing();
    for (const volume of shown) scene.addVolume(volume);
    if (contour) scene.loadDrawing(contour);
    if (moved) scene.scene.crosshairPos = scene.vox2frac(record.start);
    showOverlays(scene);
    scene.updateGLVolume();
    scene.createOnLocationChange();
  }

  function showValue(scene, message) {
    const say = {
      SUV: (value) => `SUV ${value.toFixed(2)}`,
      HU: (value) => `${Math.round(value)} HU`,
      map: (value) => `map ${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(2)}`,
    };
    const said = message.values.map(({ value }, place) => say[scene.volumes[place].shows](value));
    element("value").textContent = `At the cross: ${said.join("; ")}`;
  }

  function moveCross(scene, event) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault(); // the page stays where it is
    scene.moveCrosshairInVox(...step);
  }

  async function start() {
    if (!document.createElement("canvas").getContext("webgl2") || !window.DecompressionStream) {
      say("This browser cannot draw the scans: the viewer needs WebGL 2.");
      return;
    }
    say("Loading …");
    const { Niivue, NVImage } = await loadNiiVue();
    element("panel").hidden = false;
    const scene = new Niivue({
      backColor: WHITE, crosshairColor: CROSS, crosshairWidth: 0.6, crosshairWidthUnit: "percent", fontColor: LETTERS,
      isColorbar: true, isRadiologicalConvention: true, showAllOrientationMarkers: true,
      multiplanarShowRender: 0, dragAndDropEnabled: false, dragMode: 0, scrollRequiresFocus: true, logLevel: "error",
    });
    await scene.attachToCanvas(element("screen").firstElementChild);
    scene.addColormap("inverse-grey", GREY);
    scene.addColormap("hot-clear", HOT);
    scene.addColormap("adds", ADDS);
    scene.addColormap("takes", TAKES);
    scene.setDrawColormap(OUTLINE);
    scene.onLocationChange = (message) => showValue(scene, message);
    let last = Promise.resolve(); // one scan after the other, however fast they are chosen
    const show = (moved) => (last = last.then(() => showCase(scene, NVImage, moved)));
    element("case").addEventListener("change", () => show(true));
    element("image")?.addEventListener("change", () => show(false));
    for (const name of ["low", "high", "hu"]) element(name)?.addEventListener("input", () => showWindow(scene));
    for (const name of ["contour", "map"]) element(name)?.addEventListener("change", () => showOverlays(scene));
    element("screen").addEventListener("keydown", (event) => moveCross(scene, event));
    await show(true);
    element("open").hidden = true;
    say("");
    element("case").focus();
  }

  element("open").addEventListener("click", () => {
    start().catch((error) => say(`The viewer could not be started: ${error.message}`));
  });
})();
