// Drives NiiVue: the case that is chosen, its window, the classes that are shown. `niivue` is bound above.
const byId = (id) => document.getElementById(id);
const page = JSON.parse(byId("page").textContent);
const hidden = new Set();
const viewer = new niivue.Niivue({
  backColor: [0, 0, 0, 1],
  crosshairColor: [1, 1, 1, 0.5],
  crosshairGap: 6,
  crosshairWidth: 0.5,
  crosshairWidthUnit: "percent",
  dragAndDropEnabled: false,
  fontColor: [1, 1, 1, 1],
  isNearestInterpolation: true,
  isRadiologicalConvention: true,
  loadingText: "",
  logLevel: "warn",
  multiplanarPadPixels: 12,
  multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
  sagittalNoseLeft: true,
  showAllOrientationMarkers: true,
  sliceType: niivue.SLICE_TYPE.MULTIPLANAR,
});

function labelTable() {
  const channel = (index) => page.classes.map((one) => one.colour[index]);
  const shown = page.classes.map((_, label) => (label > 0 && !hidden.has(label) ? 255 : 0));
  const names = page.classes.map((one) => one.name);
  return { R: channel(0), G: channel(1), B: channel(2), A: shown, I: names.map((_, label) => label), labels: names };
}

function paintMask() {
  viewer.volumes[1].setColormapLabel(labelTable());
  viewer.setOpacity(1, Number(byId("opacity").value));
}

function paintScan() {
  viewer.volumes[0].cal_min = Number(byId("low").value);
  viewer.volumes[0].cal_max = Number(byId("high").value);
  viewer.updateGLVolume();
}

function goTo(centre) {
  viewer.scene.crosshairPos = viewer.mm2frac(centre);
  viewer.drawScene();
  viewer.createOnLocationChange();
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function legendLine({ label, ml, centre }) {
  const { name, colour } = page.classes[label];
  const box = element("input", { type: "checkbox", checked: !hidden.has(label), ariaLabel: `show ${name}` });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = `rgb(${colour})`;
  const button = element("button", { className: "name", disabled: !centre }, name);
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(label);
    else hidden.add(label);
    paintMask();
  });
  button.addEventListener("click", () => goTo(centre));
  const volume = element("span", { className: "ml" }, `${ml.toFixed(ml >= 100 ? 0 : ml < 10 ? 2 : 1)} ml`);
  return element("li", {}, box, swatch, button, volume);
}

function tellPlace({ mm, values }) {
  const millimetres = Array.from(mm.slice(0, 3), (value) => value.toFixed(1)).join(", ");
  const [scan, mask] = values.map((one) => one.value);
  const name = mask > 0 ? page.classes[Math.round(mask)]?.name : "";
  byId("place").textContent = `${millimetres} mm: ${Number(scan?.toPrecision(4))} ${name}`;
}

function readVolume(id, options) {
  return niivue.NVImage.loadFromBase64({ base64: byId(id).textContent, name: `${id}.nii.gz`, ...options });
}

async function showCase(index) {
  const { low, high, thinned, structures } = page.cases[index];
  for (const volume of Array.from(viewer.volumes)) viewer.removeVolume(volume);
  viewer.addVolume(await readVolume(`scan${index}`, { colormap: "gray", cal_min: low, cal_max: high }));
  viewer.addVolume(await readVolume(`mask${index}`, { opacity: Number(byId("opacity").value) }));
  [byId("low").value, byId("high").value] = [low, high].map((value) => Number(value.toPrecision(4)));
  byId("legend").replaceChildren(...structures.map(legendLine));
  byId("thinned").textContent = thinned ? `Thinned to every ${thinned} voxels; the volumes are those of the whole mask.` : "";
  paintMask();
  const largest = structures.filter((one) => one.centre).sort((a, b) => b.ml - a.ml)[0];
  if (largest) goTo(largest.centre);
  viewer.drawScene();
  document.body.dataset.shown = page.cases[index].name;
}

function complain(error) {
  byId("message").textContent = `The slices cannot be shown: ${error?.message ?? error}. The viewer needs WebGL 2.`;
  document.body.dataset.failed = "yes";
}

byId("case").append(...page.cases.map(({ name }, index) => element("option", { value: index }, name)));
byId("case").addEventListener("change", (event) => showCase(Number(event.target.value)).catch(complain));
byId("opacity").addEventListener("input", paintMask);
for (const id of ["low", "high"]) byId(id).addEventListener("change", paintScan);
byId("radiological").addEventListener("change", (event) => viewer.setRadiologicalConvention(event.target.checked));
viewer.onLocationChange = tellPlace;
try {
  await viewer.attachToCanvas(byId("slices"));
  await showCase(0);
} catch (error) {
  complain(error);
}
