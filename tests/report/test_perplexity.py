import pandas as pd
from matplotlib.image import imread

from oofline.report.perplexity import perplexity_curve


def test_the_curve_is_drawn_from_the_start_on(tmp_path):
    history = pd.DataFrame({
        "step": [0.0, 10.0], "epoch": [0.0, 1.0], "train_loss": [0.0, 3.0],
        "valid_loss": [9.0, 2.5], "score": [8103.1, 12.2],
    })  # fmt: skip
    path = perplexity_curve(tmp_path / "p.png", history, "m", "hidden tokens")
    picture = imread(path)
    assert picture.shape[1] > 2 * picture.shape[0]
    assert picture[..., :3].std() > 0.01
