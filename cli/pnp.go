package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"mqatc/runtime/pose"
)

func pnpCommand() *cli.Command {
	return &cli.Command{
		Name: "pnp", Usage: "solve poses from a folder of landmarks and measure them", ArgsUsage: "DIR",
		Description: "DIR holds K.txt, landmarks_3d_m.txt, landmarks_px_conf.npy and poses_qwxyz_txyz.npy; docs/formats.md says what is in them.",
		Flags: []cli.Flag{
			jsonFlag, &cli.Uint64Flag{Name: "seed", Value: 1, Usage: "seed of the random samples"},
			&cli.Float64Flag{Name: "threshold", Value: 5, Usage: "reprojection error of an inlier, pixels"},
			&cli.BoolFlag{Name: "unweighted", Usage: "leave the landmarks' confidences out"},
		},
		Action: func(c *cli.Context) error {
			dir, err := oneArg(c, "folder")
			if err != nil {
				return err
			}
			r, err := pose.SpeedDir(dir, pose.Options{Threshold: c.Float64("threshold"), Seed: c.Uint64("seed")}, !c.Bool("unweighted"))
			if err != nil {
				return withHint(fmt.Errorf("pnp: %w", err), "docs/formats.md describes the four files of a landmark folder")
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, r)
			}
			w := table(c.App.Writer)
			fmt.Fprintf(w, "frames\t%d\n", r.Frames)
			fmt.Fprintf(w, "without a pose\t%d\n", r.Failed)
			fmt.Fprintf(w, "time per frame\t%.0f us\n", r.MicrosPerFrame)
			fmt.Fprintf(w, "ADD-0.1d\t%.4f\n", r.ADD01)
			fmt.Fprintf(w, "ADD-0.5d\t%.4f\n", r.ADD05)
			fmt.Fprintf(w, "SPEED score\t%.4f\n", r.SpeedScore)
			return w.Flush()
		},
	}
}
