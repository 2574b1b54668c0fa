def test_astronaut(estimator, astronaut):
    (face,) = estimator(astronaut)
    assert face.score > 0.99
