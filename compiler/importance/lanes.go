package importance

import (
	"runtime"
	"sync"

	"mqatc/onnx/mapped"
)

const (
	// mostLanes bounds the probes that run side by side.
	mostLanes = 4
	// laneBytes bounds what the probes that run side by side take together.
	laneBytes = 1 << 30
)

// lanesFor is the number of lanes for so many threads, probes and bytes that a probe takes, and the threads that each lane has.
func lanesFor(threads, probes int, bytes int64) (lanes, each int) {
	lanes = min(threads, probes, mostLanes)
	if bytes > 0 {
		lanes = int(min(int64(lanes), laneBytes/bytes))
	}
	lanes = max(lanes, 1)
	return lanes, max(threads/lanes, 1)
}

// sideBySide runs probes 0, 1, ... below most in so many lanes and hands their values to take one after the other, in the order of the
// probes, until take is done. Probes that ran beyond that are dropped. The error is that of the lowest probe that failed, run or taken;
// all lanes have ended when sideBySide returns. A lane keeps to one thread of the system, for each of which the C library has a heap.
func sideBySide(lanes, most int, run func(lane, probe int) ([]float64, error), take func(probe int, got []float64) (done bool, err error)) error {
	var (
		mu          sync.Mutex
		wg          sync.WaitGroup
		next, taken int
		end         = most // no probe is taken from here on
		failure     error
	)
	early := map[int][]float64{} // those that wait for a lower one
	// in is called with mu held.
	in := func(probe int, got []float64, err error) {
		if probe >= end {
			return
		}
		if err != nil {
			end, failure = probe, err
			return
		}
		early[probe] = got
		for taken < end && early[taken] != nil {
			done, err := take(taken, early[taken])
			delete(early, taken)
			switch {
			case err != nil:
				end, failure = taken, err
			case done:
				end, failure = taken+1, nil
			}
			taken++
		}
	}
	for lane := range lanes {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			mu.Lock()
			defer mu.Unlock()
			for next < end {
				probe := next
				next++
				mu.Unlock()
				var got []float64
				err := mapped.Guard(func() (err error) {
					got, err = run(lane, probe)
					return err
				})
				mu.Lock()
				in(probe, got, err)
			}
		})
	}
	wg.Wait()
	return failure
}
