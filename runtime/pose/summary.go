package pose

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Object is what errors of an object's pose are measured with.
type Object struct {
	ID       int
	Surface  *Surface
	Diameter float64
	// Center is the point whose depth sorts poses into ranges, in model coordinates.
	Center    [3]float64
	Symmetric bool
}

// Result is the error of one pose; lengths in the unit of the model.
type Result struct {
	Object    int
	Symmetric bool
	Diameter  float64
	// Depth is the true depth of the object's centre.
	Depth float64
	// Found is false where no pose was estimated; the errors then mean nothing.
	Found              bool
	ADD, ADI, ADIPaper float64
	Rotation           float64 // radians
	Translation        float64
}

// Measure compares an estimate, nil for none, with the truth.
func (o *Object) Measure(est *Pose, truth Pose) Result {
	r := Result{Object: o.ID, Symmetric: o.Symmetric, Diameter: o.Diameter, Depth: truth.Apply(o.Center)[2]}
	if est == nil {
		return r
	}
	r.Found = true
	r.ADD = ADD(est, &truth, o.Surface.Points)
	r.ADI = o.Surface.ADI(est, &truth)
	r.ADIPaper = o.Surface.ADIPaper(est, &truth)
	r.Rotation = RotationError(est.R, truth.R)
	r.Translation = TranslationError(est.T, truth.T)
	return r
}

// Score is accuracy over some poses: fractions 0..1 with an error below 0.1 or
// 0.5 diameters. A pose that was not found is a miss, and counts as an error of
// one diameter, 180 degrees and its whole depth in the means and the median.
type Score struct {
	Poses int `json:"poses"`
	Found int `json:"found"`
	// AD is ADD, but ADI for symmetric objects.
	AD01  float64 `json:"ad_0.1d"`
	ADD01 float64 `json:"add_0.1d"`
	ADD05 float64 `json:"add_0.5d"`
	ADI01 float64 `json:"adi_0.1d"`
	ADI05 float64 `json:"adi_0.5d"`
	// ADIPaper has the roles of estimate and truth exchanged.
	ADIPaper01 float64 `json:"adi_paper_0.1d"`
	ADIPaper05 float64 `json:"adi_paper_0.5d"`
	// MedianADD is in diameters.
	MedianADD float64 `json:"add_median_d"`
	// Rotation is the mean error in degrees, Translation in the model's unit.
	Rotation    float64 `json:"rotation_deg"`
	Translation float64 `json:"translation"`
}

// ObjectScore is the score of one object's poses.
type ObjectScore struct {
	Object int `json:"object"`
	Score
}

// RangeScore is the score of the poses with From <= depth < To (the last range includes To).
type RangeScore struct {
	Range string  `json:"range"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Score
}

// Summary is the score over all poses, by object and by depth.
type Summary struct {
	Images int `json:"images"`
	Score
	Objects []ObjectScore `json:"objects"`
	Depths  []RangeScore  `json:"depths"`
}

// rangeNames are the thirds of the depth range.
var rangeNames = [3]string{"near", "medium", "far"}

// Summarize scores results from a number of images. The depth range is cut
// into three of equal width; nil takes it from the results, and poses outside a given one
// belong to its ends. There must be a result.
func Summarize(images int, results []Result, depths *[2]float64) (*Summary, error) {
	if len(results) == 0 {
		return nil, fmt.Errorf("pose: %d images hold no object with a known pose", images)
	}
	s := &Summary{Images: images, Score: scoreOf(results)}
	byObject := map[int][]Result{}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, r := range results {
		byObject[r.Object] = append(byObject[r.Object], r)
		lo, hi = min(lo, r.Depth), max(hi, r.Depth)
	}
	for _, id := range slices.Sorted(maps.Keys(byObject)) {
		s.Objects = append(s.Objects, ObjectScore{id, scoreOf(byObject[id])})
	}
	if depths != nil {
		lo, hi = depths[0], depths[1]
	}
	var bins [len(rangeNames)][]Result
	for _, r := range results {
		b := 0
		if hi > lo {
			b = min(max(int(math.Floor((r.Depth-lo)/(hi-lo)*float64(len(bins)))), 0), len(bins)-1)
		}
		bins[b] = append(bins[b], r)
	}
	step := (hi - lo) / float64(len(bins))
	for i, b := range bins {
		s.Depths = append(s.Depths, RangeScore{rangeNames[i], lo + float64(i)*step, lo + float64(i+1)*step, scoreOf(b)})
	}
	return s, nil
}

func scoreOf(results []Result) Score {
	s := Score{Poses: len(results)}
	if s.Poses == 0 {
		return s
	}
	n := float64(s.Poses)
	adds := make([]float64, 0, len(results))
	var hits [7]int
	for _, r := range results {
		if !r.Found {
			adds = append(adds, 1)
			s.Rotation += 180 / n
			s.Translation += r.Depth / n
			continue
		}
		s.Found++
		adds = append(adds, r.ADD/r.Diameter)
		s.Rotation += r.Rotation * 180 / math.Pi / n
		s.Translation += r.Translation / n
		ad := r.ADD
		if r.Symmetric {
			ad = r.ADI
		}
		for i, e := range [7]float64{ad / 0.1, r.ADD / 0.1, r.ADD / 0.5, r.ADI / 0.1, r.ADI / 0.5, r.ADIPaper / 0.1, r.ADIPaper / 0.5} {
			if e < r.Diameter {
				hits[i]++
			}
		}
	}
	for i, to := range [7]*float64{&s.AD01, &s.ADD01, &s.ADD05, &s.ADI01, &s.ADI05, &s.ADIPaper01, &s.ADIPaper05} {
		*to = float64(hits[i]) / n
	}
	slices.Sort(adds)
	m := len(adds)
	s.MedianADD = (adds[(m-1)/2] + adds[m/2]) / 2
	return s
}
