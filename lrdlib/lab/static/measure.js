/* What a record holds beside the loss: singular values, ranks and Fourier power, computed in the worker.
 *
 * The definitions are those of lrdlib.spectral and lrdlib.fourier, which the tests hold them against; the singular
 * values are ml-matrix's.
 */

const singularValues = (values, rows, columns) => {
  const lines = Array.from({length: rows}, (_, i) => values.subarray(i * columns, (i + 1) * columns));
  const options = {computeLeftSingularVectors: false, computeRightSingularVectors: false, autoTranspose: true};
  return Float32Array.from(new mlMatrix.SVD(new mlMatrix.Matrix(lines), options).diagonal);
};

const stableRank = (S) => (S[0] > 0 ? S.reduce((sum, s) => sum + (s / S[0]) ** 2, 0) : 0);

const effectiveRank = (S) => {
  const total = S.reduce((sum, s) => sum + s, 0);
  if (!(total > 0)) return 0;
  return Math.exp(S.reduce((sum, s) => sum - (s > 0 ? (s / total) * Math.log(s / total) : 0), 0));
};

// The share of the variance of the rows of E (p, d) that each frequency k = 1 .. p // 2 holds.
const fourierPower = (E, p, d) => {
  const table = Array.from({length: p}, (_, j) => [Math.cos((2 * Math.PI * j) / p), Math.sin((2 * Math.PI * j) / p)]);
  const power = Float64Array.from({length: Math.floor(p / 2)}, (_, i) => {
    const k = i + 1;
    const real = new Float64Array(d);
    const imaginary = new Float64Array(d);
    for (let a = 0; a < p; a++) {
      const [c, s] = table[(a * k) % p];
      for (let j = 0; j < d; j++) {
        real[j] += c * E[a * d + j];
        imaginary[j] += s * E[a * d + j];
      }
    }
    const sum = real.reduce((total, x, j) => total + x * x + imaginary[j] ** 2, 0);
    return 2 * k === p ? sum / 2 : sum;
  });
  const total = power.reduce((sum, x) => sum + x, 0);
  return Float32Array.from(power, (x) => x / total);
};

const meanOf = (rows, values) => (rows.length ? rows.reduce((sum, row) => sum + values[row], 0) / rows.length : NaN);

const norm = (values) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
