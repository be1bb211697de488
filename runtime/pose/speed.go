package pose

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mqatc/runtime/data/npy"
)

// Landmarks is a folder of detected landmarks with known poses: K.txt (3x3,
// pixels), landmarks_3d_m.txt (n x 3, metres), landmarks_px_conf.npy
// (frames x n x 3: x, y in pixels and confidence), poses_qwxyz_txyz.npy
// (frames x 7: unit quaternion, scalar first, and metres, model to camera).
type Landmarks struct {
	K          [9]float64
	Model      [][3]float64
	Points     [][][2]float64
	Confidence [][]float64
	Truth      []Pose
}

// LandmarkReport is what SpeedDir measures.
type LandmarkReport struct {
	Frames int `json:"frames"`
	// MicrosPerFrame is the time of the solver alone, on one thread.
	MicrosPerFrame float64 `json:"us_per_frame"`
	ADD01          float64 `json:"add_0.1d"`
	ADD05          float64 `json:"add_0.5d"`
	// SpeedScore is the mean of rotation error in radians plus relative
	// translation error, without the challenge's dead zone; a frame without a
	// pose counts pi + 1.
	SpeedScore float64 `json:"speed_score"`
	// Failed is the number of frames without a pose.
	Failed int `json:"failed"`
}

// minConfidence keeps a landmark with low confidence from being ignored altogether.
const minConfidence = 0.1

// ConfidenceWeights maps confidences of detected landmarks to weights for
// Solve: the cube of the confidence clamped to 0.1..1, since the pixel error
// grows faster than the confidence falls.
func ConfidenceWeights(conf []float64, out []float64) []float64 {
	for _, c := range conf {
		c = min(max(c, minConfidence), 1)
		out = append(out, c*c*c)
	}
	return out
}

// SpeedDir solves every frame of a landmark folder, with the confidences as
// weights if weighted, and measures it.
func SpeedDir(dir string, opt Options, weighted bool) (*LandmarkReport, error) {
	l, err := ReadLandmarks(dir)
	if err != nil {
		return nil, err
	}
	return l.Evaluate(opt, weighted)
}

// Evaluate solves every frame. A frame on which Solve fails with opt is tried
// once more with four times the threshold.
func (l *Landmarks) Evaluate(opt Options, weighted bool) (*LandmarkReport, error) {
	s, err := NewSolver(opt)
	if err != nil {
		return nil, err
	}
	wide := s.opt
	wide.Threshold *= 4
	rescue, err := NewSolver(wide)
	if err != nil {
		return nil, err
	}
	weights := make([][]float64, len(l.Points))
	if weighted {
		for i, c := range l.Confidence {
			weights[i] = ConfidenceWeights(c, nil)
		}
	}
	poses, solved := make([]Pose, len(l.Points)), make([]bool, len(l.Points))
	start := time.Now()
	for i, pts := range l.Points {
		p, _, err := s.Solve(l.Model, pts, weights[i], l.K)
		if errors.Is(err, ErrNoPose) {
			p, _, err = rescue.Solve(l.Model, pts, weights[i], l.K)
		}
		poses[i], solved[i] = p, err == nil
		if err != nil && !errors.Is(err, ErrNoPose) {
			return nil, fmt.Errorf("frame %d: %w", i, err)
		}
	}
	elapsed := time.Since(start)
	return l.score(poses, solved, elapsed), nil
}

func (l *Landmarks) score(poses []Pose, solved []bool, elapsed time.Duration) *LandmarkReport {
	r := &LandmarkReport{Frames: len(poses)}
	d := Diameter(l.Model)
	var score float64
	for i, truth := range l.Truth {
		if !solved[i] {
			r.Failed++
			score += math.Pi + 1
			continue
		}
		add := ADD(&poses[i], &truth, l.Model)
		if add < 0.1*d {
			r.ADD01++
		}
		if add < 0.5*d {
			r.ADD05++
		}
		score += RotationError(poses[i].R, truth.R) + TranslationError(poses[i].T, truth.T)/norm(truth.T)
	}
	n := float64(len(poses))
	r.ADD01, r.ADD05, r.SpeedScore = r.ADD01/n, r.ADD05/n, score/n
	r.MicrosPerFrame = float64(elapsed.Nanoseconds()) / 1e3 / n
	return r
}

// ReadLandmarks reads a landmark folder.
func ReadLandmarks(dir string) (*Landmarks, error) {
	l := &Landmarks{}
	k, err := readText(filepath.Join(dir, "K.txt"), 3)
	if err != nil {
		return nil, landmarkError(dir, err)
	}
	if len(k) != 3 {
		return nil, fmt.Errorf("pose: %s: K.txt has %d rows, not 3", dir, len(k))
	}
	for i, v := range k {
		copy(l.K[3*i:], v)
	}
	if err := checkCamera(l.K); err != nil {
		return nil, fmt.Errorf("%w (%s)", err, filepath.Join(dir, "K.txt"))
	}
	model, err := readText(filepath.Join(dir, "landmarks_3d_m.txt"), 3)
	if err != nil {
		return nil, landmarkError(dir, err)
	}
	for _, v := range model {
		l.Model = append(l.Model, [3]float64(v))
	}
	px, err := npy.ReadFile(filepath.Join(dir, "landmarks_px_conf.npy"))
	if err != nil {
		return nil, landmarkError(dir, err)
	}
	truth, err := npy.ReadFile(filepath.Join(dir, "poses_qwxyz_txyz.npy"))
	if err != nil {
		return nil, landmarkError(dir, err)
	}
	n := len(l.Model)
	if len(px.Shape) != 3 || px.Shape[1] != n || px.Shape[2] != 3 || px.Shape[0] == 0 {
		return nil, fmt.Errorf("pose: %s: landmarks_px_conf.npy has shape %v, not (frames, %d, 3)", dir, px.Shape, n)
	}
	frames := px.Shape[0]
	if len(truth.Shape) != 2 || truth.Shape[0] != frames || truth.Shape[1] != 7 {
		return nil, fmt.Errorf("pose: %s: poses_qwxyz_txyz.npy has shape %v, not (%d, 7)", dir, truth.Shape, frames)
	}
	for f := range frames {
		pts, conf := make([][2]float64, n), make([]float64, n)
		for j := range n {
			v := px.Data[3*(f*n+j):]
			pts[j], conf[j] = [2]float64{v[0], v[1]}, v[2]
		}
		q := truth.Data[7*f:]
		r, err := RotationOf([4]float64(q[:4]))
		if err != nil {
			return nil, fmt.Errorf("%w (%s, frame %d)", err, dir, f)
		}
		t := [3]float64(q[4:7])
		if !(norm(t) > 0) || math.IsInf(norm(t), 0) {
			return nil, fmt.Errorf("pose: %s: frame %d has translation %v", dir, f, t)
		}
		l.Points, l.Confidence = append(l.Points, pts), append(l.Confidence, conf)
		l.Truth = append(l.Truth, Pose{R: r, T: t})
	}
	return l, nil
}

func landmarkError(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pose: %s is no landmark folder: %w", dir, err)
	}
	return fmt.Errorf("pose: %w", err)
}

const maxText = 16 << 20

// readText reads rows of columns numbers each.
func readText(path string, columns int) ([][]float64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxText {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", path, maxText)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows [][]float64
	for i, line := range strings.Split(string(data), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != columns {
			return nil, fmt.Errorf("%s, line %d: %d numbers, not %d", path, i+1, len(f), columns)
		}
		row := make([]float64, columns)
		for j, s := range f {
			if row[j], err = strconv.ParseFloat(s, 64); err != nil || math.IsNaN(row[j]) || math.IsInf(row[j], 0) {
				return nil, fmt.Errorf("%s, line %d: %q is no number", path, i+1, s)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}
