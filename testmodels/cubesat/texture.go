package cubesat

import "sync"

// textureSize is the side of a face's texture in texels.
const textureSize = 32

type rgb = [3]uint8

// texture holds textureSize x textureSize texels, index u*textureSize+v.
type texture = [textureSize * textureSize]rgb

// mark paints color over the texels for which it holds.
type mark struct {
	holds func(u, v int) bool
	color rgb
}

func everywhere(int, int) bool { return true }

// rect holds for u0 <= u < u1 and v0 <= v < v1.
func rect(u0, u1, v0, v1 int) func(int, int) bool {
	return func(u, v int) bool { return u0 <= u && u < u1 && v0 <= v && v < v1 }
}

func disc(cu, cv, r2 int) func(int, int) bool {
	return func(u, v int) bool { return (u-cu)*(u-cu)+(v-cv)*(v-cv) < r2 }
}

func gridLines(n int) func(int, int) bool {
	return func(u, v int) bool { return u%n == 0 || v%n == 0 }
}

func checker(n int) func(int, int) bool {
	return func(u, v int) bool { return (u/n+v/n)%2 == 0 }
}

func beyondDiagonal(s int) func(int, int) bool {
	return func(u, v int) bool { return u+v > s }
}

// partPaint is the paint of all faces of a box and of single faces over it,
// faces in the order -x +x -y +y -z +z.
type partPaint struct {
	all   []mark
	faces [6][]mark
}

// paints gives each box its look; no two faces of the body share colour or mark,
// so that one visible face settles the orientation.
var paints = [len(boxes)]partPaint{
	{faces: [6][]mark{
		{{everywhere, rgb{200, 160, 40}}, {disc(10, 20, 49), rgb{30, 20, 10}}, {rect(22, 29, 3, 13), rgb{240, 240, 240}}},
		{{everywhere, rgb{25, 40, 120}}, {gridLines(8), rgb{90, 110, 190}}, {rect(2, 10, 2, 10), rgb{230, 230, 230}}},
		{{everywhere, rgb{70, 70, 75}}, {rect(4, 9, 0, 32), rgb{30, 150, 50}}, {rect(20, 28, 20, 28), rgb{220, 200, 30}}},
		{{everywhere, rgb{215, 215, 220}}, {rect(6, 26, 8, 12), rgb{190, 25, 25}}, {rect(18, 22, 4, 24), rgb{190, 25, 25}}},
		{{everywhere, rgb{40, 30, 60}}, {checker(8), rgb{110, 50, 110}}, {rect(0, 8, 24, 32), rgb{230, 120, 30}}},
		{{everywhere, rgb{150, 150, 160}}, {rect(3, 14, 16, 28), rgb{15, 15, 15}}, {beyondDiagonal(46), rgb{235, 120, 20}}},
	}},
	{all: []mark{{everywhere, rgb{60, 60, 70}}}, faces: [6][]mark{
		4: {{everywhere, rgb{170, 90, 50}}, {rect(0, 10, 0, 10), rgb{240, 240, 240}}},
		5: {{everywhere, rgb{20, 35, 130}}, {gridLines(8), rgb{100, 120, 200}}},
	}},
	{all: []mark{{everywhere, rgb{200, 30, 30}}, {rect(0, 32, 16, 24), rgb{240, 240, 240}}}},
	{all: []mark{{everywhere, rgb{20, 20, 25}}}, faces: [6][]mark{
		2: {{everywhere, rgb{60, 190, 200}}, {rect(10, 22, 10, 22), rgb{10, 10, 10}}},
	}},
}

// textures are the painted faces, in the order of faces().
var textures = sync.OnceValue(func() []texture {
	ts := make([]texture, 0, 6*len(paints))
	for _, p := range paints {
		for s := range 6 {
			var t texture
			for _, marks := range [2][]mark{p.all, p.faces[s]} {
				for _, m := range marks {
					for i := range t {
						if m.holds(i/textureSize, i%textureSize) {
							t[i] = m.color
						}
					}
				}
			}
			ts = append(ts, t)
		}
	}
	return ts
})
