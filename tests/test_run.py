import numpy as np
import seqjax as sj
import jax, jax.numpy as jnp, pytest

@pytest.mark.parametrize("g", sj.names("gradient"))
@pytest.mark.parametrize("o", sj.names("optimizer"))
def test_run(g, o):
    e = sj.Experiment(corpus=sj.Text("hello world, this is a text. "*40), train=800, heldout=200,
       sampler=sj.create("sampler","random",batch_size=4,num_steps=10), model=sj.create("model","rnn",hidden=6), gradient=sj.create("gradient", g), optimizer=sj.create("optimizer",o), epochs=2)
    run = e.run()
    assert run.metric("train_loss")[-1] < 4

def test_x64(x64):
    test_run("rtrl","sgd")
